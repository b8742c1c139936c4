"""A change of aliases: proposed, and, once it is made, with who made it, when and why."""

import hashlib
from typing import Any, Literal

from pydantic import Field, PrivateAttr

from pipeline.promotion.decision import Decision, Frozen

CHAMPION, CHALLENGER = "champion", "challenger"

Action = Literal["promote", "rollback"]


class Holder(Frozen):
    """The version that an alias points to; numbers change when a store is made again, the checkpoint does not."""

    version: str
    checkpoint_sha256: str


Holders = dict[str, Holder | None]  # by alias


def checkpoint_at(holders: Holders, alias: str) -> str | None:
    """Of the version that has the alias; None where none has."""
    holder = holders.get(alias)
    return holder.checkpoint_sha256 if holder else None


class Change(Frozen):
    """Champion, challenger and, if it is another, the alias asked for, before and after."""

    schema_version: Literal[1] = 1
    model_name: str
    dataset: str
    action: Action
    alias: str
    before: Holders
    after: Holders

    @property
    def moved_aliases(self) -> list[str]:
        """Those that go elsewhere, the one asked for first; it alone where it is there already."""
        names = dict.fromkeys((self.alias, *self.after))
        return [name for name in names if self.before.get(name) != self.after.get(name)] or [self.alias]

    @property
    def moved_alias(self) -> str:
        """The one that it is about."""
        return self.moved_aliases[0]


class Proposal(Change):
    """What is to be done, or why it is refused; then nothing changes."""

    decision: Decision | None  # a rollback judges nothing
    refusal: str = ""
    settled: bool  # the aliases are so already, and the promotion log knows


class Signature(Frozen):
    """Who answers for a change."""

    by: str
    at: str  # UTC, ISO 8601
    why: str


class Approval(Frozen):
    """A human's answer to a proposal, and the form it is given in."""

    approve: bool = Field(default=False, description="Leave it off to reject")
    by: str = Field(default="", description="Your name, for the promotion log")
    why: str = ""


class Move(Signature, Change):
    """A line of the promotion log. Its decision stays as it was written: the log outlives the names of metrics."""

    decision: dict[str, Any] | None
    _line: str = PrivateAttr("")  # as read; what this program would write of it may have changed since

    @classmethod
    def of_line(cls, line: str) -> "Move":
        """
        Raises:
            ValidationError: it is another program's.
        """
        move = cls.model_validate_json(line)
        move._line = line
        return move

    @property
    def line(self) -> str:
        return self._line or self.model_dump_json()

    @property
    def sha256(self) -> str:
        """Of the line: by this, MLflow's tags and runs name it."""
        return hashlib.sha256(self.line.encode()).hexdigest()

    def evidence_judged(self, checkpoint_sha256: str) -> str | None:
        """The content hash of the run that the checkpoint was judged on; None where the decision does not say."""
        candidates = (self.decision or {}).get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, dict) and candidate.get("checkpoint_sha256") == checkpoint_sha256:
                evidence = candidate.get("evidence_sha256")
                return evidence if isinstance(evidence, str) else None
        return None


def signed(proposal: Proposal, signature: Signature) -> Move:
    """The change as it is carried out."""
    decision = proposal.decision.model_dump(mode="json") if proposal.decision else None
    change = {name: getattr(proposal, name) for name in Change.model_fields}
    return Move(**change, **dict(signature), decision=decision)
