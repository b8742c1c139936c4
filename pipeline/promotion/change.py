"""A change of aliases: proposed, and, once it is made, with who made it, when and why."""

import hashlib
from typing import Literal

from pydantic import Field

from pipeline.promotion.decision import Decision, Frozen

CHAMPION, CHALLENGER = "champion", "challenger"

Action = Literal["promote", "rollback"]


class Holder(Frozen):
    """The version that an alias points to; numbers change when a store is made again, the checkpoint does not."""

    version: str
    checkpoint_sha256: str


Holders = dict[str, Holder | None]  # by alias


class Change(Frozen):
    """Champion, challenger and, if it is another, the alias asked for, before and after."""

    schema_version: Literal[1] = 1
    model_name: str
    dataset: str
    action: Action
    alias: str
    before: Holders
    after: Holders
    decision: Decision | None  # a rollback judges nothing

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
    """A line of the promotion log."""

    @property
    def line(self) -> str:
        return self.model_dump_json()

    @property
    def sha256(self) -> str:
        """Of the line: by this, MLflow's tags and runs name it."""
        return hashlib.sha256(self.line.encode()).hexdigest()


def signed(proposal: Proposal, signature: Signature) -> Move:
    """The change as it is carried out."""
    return Move(**{name: getattr(proposal, name) for name in Change.model_fields}, **dict(signature))
