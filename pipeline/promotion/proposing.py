"""What a promotion or a rollback would change, as things are now; nothing is changed here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import registry, tracking
from pipeline.errors import RefusalError
from pipeline.promotion.change import CHALLENGER, CHAMPION, Action, Change, Move, Proposal, checkpoint_at
from pipeline.promotion.decision import Decision
from pipeline.promotion.judging import Policy, decide
from pipeline.promotion.log import giver_of, moves_of, wanted_aliases
from pipeline.promotion.moving import earlier_aliases
from pipeline.promotion.planning import Request, Wanted, planned
from pipeline.promotion.registered import registered_versions
from pipeline.promotion.state import ModelState, refuse_another_log, state_of


def propose_promotion(log_path: Path, policy: Policy, request: Request) -> Proposal:
    """All versions judged, and the aliases as they would be.

    Raises:
        StudyError: the store does not answer or was promoted from another log, or the policy or the request names what
            is not there.
    """
    client = tracking.open_store()
    known = _known(client, log_path, registry.model_name(policy.dataset))
    before = known.state.numbers(CHAMPION, CHALLENGER, request.alias)
    decision = decide(known.state.name, registered_versions(client, policy.dataset), policy)
    outcome = _outcome(lambda: planned(decision, before, request), before)
    return _proposal(known, _Asked(policy.dataset, "promote", request.alias), before, outcome, decision)


def propose_rollback(log_path: Path, dataset: str) -> Proposal:
    """Champion and challenger as they were before the last promotion of a champion.

    Raises:
        StudyError: the store does not answer or was promoted from another log.
    """
    client = tracking.open_store()
    known = _known(client, log_path, registry.model_name(dataset))
    before = known.state.numbers(CHAMPION, CHALLENGER)
    outcome = _outcome(lambda: earlier_aliases(client, known.state, known.moves), before)
    return _proposal(known, _Asked(dataset, "rollback", CHAMPION), before, outcome, None)


@dataclass(frozen=True)
class _Known:
    """What store and log hold of a registered model."""

    state: ModelState
    moves: Sequence[Move]


@dataclass(frozen=True)
class _Asked:
    dataset: str
    action: Action
    alias: str


@dataclass(frozen=True)
class _Outcome:
    after: Wanted
    refusal: str


def _known(client: tracking.MlflowClient, log_path: Path, name: str) -> _Known:
    known = _Known(state_of(client, name), moves_of(log_path, name))
    refuse_another_log(known.state, known.moves)
    return known


def _outcome(plan: Callable[[], Wanted], before: Wanted) -> _Outcome:
    """The aliases as planned, or as they are and why."""
    try:
        return _Outcome(plan(), "")
    except RefusalError as error:
        return _Outcome(before, str(error))


def _proposal(known: _Known, asked: _Asked, before: Wanted, outcome: _Outcome, decision: Decision | None) -> Proposal:
    change = Change(
        model_name=known.state.name,
        dataset=asked.dataset,
        action=asked.action,
        alias=asked.alias,
        before=known.state.holders(before),
        after=known.state.holders(outcome.after),
    )
    settled = change.before == change.after and _is_told(known.moves, change, decision)
    return Proposal(**dict(change), decision=decision, refusal=outcome.refusal, settled=settled)


def _is_told(moves: Sequence[Move], change: Change, decision: Decision | None) -> bool:
    """Whether the log ends with these holders, and knows who gave the alias asked for, on the evidence as it is now.

    It does not where somebody moved an alias by hand, or where heatmaps were scored anew.
    """
    told, holder = wanted_aliases(moves, change.model_name), checkpoint_at(change.after, change.alias)
    if holder is None or any(told.get(alias) != checkpoint_at(change.after, alias) for alias in change.after):
        return False
    giver = giver_of(moves, change.alias, holder)
    judged = giver.evidence_judged(holder) if giver else None
    candidates = decision.candidates if decision else ()
    now = {candidate.checkpoint_sha256: candidate.evidence_sha256 for candidate in candidates}
    return giver is not None and judged in (None, now.get(holder))
