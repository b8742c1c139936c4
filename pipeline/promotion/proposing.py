"""What a promotion or a rollback would change, as things are now; nothing is changed here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import registry, tracking
from pipeline.errors import RefusalError
from pipeline.promotion.change import CHALLENGER, CHAMPION, Action, Holders, Proposal
from pipeline.promotion.decision import Decision
from pipeline.promotion.judging import Policy, decide
from pipeline.promotion.log import read, wanted_aliases
from pipeline.promotion.moving import earlier_aliases, holders_of
from pipeline.promotion.planning import Request, Wanted, planned
from pipeline.promotion.registered import registered_versions


def propose_promotion(log_path: Path, policy: Policy, request: Request) -> Proposal:
    """All versions judged, and the aliases as they would be.

    Raises:
        StudyError: the store does not answer, or the policy or the request names what is not there.
    """
    client, name = tracking.open_store(), registry.model_name(policy.dataset)
    before = _aliases(client, name, CHAMPION, CHALLENGER, request.alias)
    decision = decide(name, registered_versions(client, policy.dataset), policy)
    outcome = _outcome(lambda: planned(decision, before, request), before)
    asked = _Asked(client, log_path, policy.dataset, "promote", request.alias)
    return _proposal(asked, before, *outcome, decision)


def propose_rollback(log_path: Path, dataset: str) -> Proposal:
    """Champion and challenger as they were before the last promotion of a champion."""
    client, name = tracking.open_store(), registry.model_name(dataset)
    before = _aliases(client, name, CHAMPION, CHALLENGER)
    outcome = _outcome(lambda: earlier_aliases(client, log_path, name), before)
    return _proposal(_Asked(client, log_path, dataset, "rollback", CHAMPION), before, *outcome, None)


@dataclass(frozen=True)
class _Asked:
    client: tracking.MlflowClient
    log_path: Path
    dataset: str
    action: Action
    alias: str


def _outcome(plan: Callable[[], Wanted], before: Wanted) -> tuple[Wanted, str]:
    """The aliases as planned, or as they are and why."""
    try:
        return plan(), ""
    except RefusalError as error:
        return before, str(error)


def _proposal(asked: _Asked, before: Wanted, after: Wanted, refusal: str, decision: Decision | None) -> Proposal:
    name = registry.model_name(asked.dataset)
    start, end = (holders_of(asked.client, name, aliases) for aliases in (before, after))
    return Proposal(
        model_name=name,
        dataset=asked.dataset,
        action=asked.action,
        alias=asked.alias,
        before=start,
        after=end,
        decision=decision,
        refusal=refusal,
        settled=start == end and _is_told(asked.log_path, name, end),
    )


def _is_told(log_path: Path, name: str, holders: Holders) -> bool:
    """Whether the log ends with these holders; it does not where somebody moved an alias by hand."""
    told = wanted_aliases(read(log_path), name)
    return all(told.get(alias) == (holder and holder.checkpoint_sha256) for alias, holder in holders.items())


def _aliases(client: tracking.MlflowClient, name: str, *aliases: str) -> Wanted:
    present = registry.aliases_of(client, name)
    return {alias: present.get(alias) for alias in aliases}
