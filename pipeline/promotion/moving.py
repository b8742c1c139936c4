"""Aliases moved in the registry: under a lock, with a line in the promotion log, tags, and a run as audit.

The log is written first, as a database writes its log before its pages. Cut off before it, nothing has happened; after
it, the move is known with who and why, and the next one finishes it. The other way round a kill would leave a champion
that nobody answers for. That a move is finished is told by a tag of the registered model, which is written last; an
alias that was moved by hand later is thus not taken for a move that was cut off.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline import registry, tracking
from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.audit import write_audit
from pipeline.promotion.change import CHALLENGER, CHAMPION, Holder, Holders, Move
from pipeline.promotion.log import append, before_last, locked, moves_of
from pipeline.promotion.planning import Wanted
from pipeline.promotion.registered import refuse_other_evidence, refuse_other_weights
from pipeline.promotion.state import FINISHED, ModelState, cut_off, refuse_another_log, state_of
from pipeline.promotion.tags import tags_by_checkpoint

log = logging.getLogger(__name__)


def make_move(log_path: Path, move: Move) -> None:
    """Does what the move says and leaves its traces.

    Raises:
        RefusalError: the aliases are no longer those that the move was decided on, or a version is not.
        StudyError: the store was promoted from another log.
    """
    client = tracking.open_store()
    with locked(log_path):
        moves = moves_of(log_path, move.model_name)
        state = _finished_state(client, move.model_name, moves)
        refuse_another_log(state, moves)
        if state.holders(state.numbers(*move.before)) != move.before:
            raise RefusalError(f"{move.model_name}: its aliases were moved meanwhile; run again to decide anew")
        for holder in _new_holders(move):
            _refuse_changed(client, state, move, holder)
        append(log_path, move)
        _carry_out(client, state, [*moves, move])


def finish_last_move(log_path: Path, dataset: str) -> None:
    """Carries out the last line of the log where that was cut off, or where the store was made again since."""
    client, name = tracking.open_store(), registry.model_name(dataset)
    with locked(log_path):
        _finished_state(client, name, moves_of(log_path, name))


def earlier_aliases(client: tracking.MlflowClient, state: ModelState, moves: Sequence[Move]) -> Wanted:
    """Champion and challenger to go back to, under the versions' present numbers.

    Raises:
        RefusalError: there was no champion before, or its version or weights are gone.
    """
    before = before_last(moves, state.name, state.checkpoint_at(CHAMPION))
    champion, challenger = before[CHAMPION], before.get(CHALLENGER)
    assert champion is not None  # before_last refuses it
    version, rival = _whole_version(client, state, champion), _whole_challenger(client, state, challenger)
    return {CHAMPION: version, CHALLENGER: rival if rival != version else None}  # both, where it was set so by hand


def write_tags(client: tracking.MlflowClient, state: ModelState, moves: Sequence[Move]) -> None:
    """Leaves on each version what the log tells of it."""
    for checkpoint, tags in tags_by_checkpoint(moves, state.name).items():
        if version := state.versions.get(checkpoint):
            edited = {key: value for key, value in tags.items() if version.tags.get(key) != value}
            registry.tag_version(client, state.name, str(version.version), edited)


def _finished_state(client: tracking.MlflowClient, name: str, moves: Sequence[Move]) -> ModelState:
    """The model after its last move, which is carried out if it was cut off."""
    state = state_of(client, name)
    if move := cut_off(state, moves):
        log.info("%s: finishing the move of %s, which was not carried out to its end here", name, move.at)
        _carry_out(client, state, moves)
        return state_of(client, name)
    return state


def _carry_out(client: tracking.MlflowClient, state: ModelState, moves: Sequence[Move]) -> None:
    """The last move. Each part may have been done before; the tag that says so comes last."""
    move = moves[-1]
    wanted = _apart(_present_aliases(state, move.after), state)
    registry.move_aliases(client, state.name, wanted, never_absent=CHAMPION)
    write_tags(client, state, moves)
    receiver = move.after.get(move.moved_alias)
    write_audit(client, move, state.versions.get(receiver.checkpoint_sha256) if receiver else None)
    client.set_registered_model_tag(state.name, FINISHED, move.sha256)


def _present_aliases(state: ModelState, holders: Holders) -> Wanted:
    """By the number that each holder's checkpoint has now; without the aliases whose version is gone."""
    found: Wanted = {}
    for alias, holder in holders.items():
        number = state.number_of(holder.checkpoint_sha256) if holder else None
        if holder and number is None:
            log.warning("%s: version %s, the %s of the promotion log, is gone", state.name, holder.version, alias)
        else:
            found[alias] = number
    return found


def _apart(wanted: Wanted, state: ModelState) -> Wanted:
    """Without the challenger where an alias that has to stay would make it the champion too."""
    then = {**state.aliases, **wanted}
    return {**wanted, CHALLENGER: None} if then.get(CHALLENGER) == then.get(CHAMPION) else wanted


def _new_holders(move: Move) -> list[Holder]:
    """Versions that an alias is moved to, or was judged anew on."""
    return [holder for alias in move.moved_aliases if (holder := move.after.get(alias))]


def _refuse_changed(client: tracking.MlflowClient, state: ModelState, move: Move, holder: Holder) -> None:
    """Days may lie between a decision and its approval."""
    where = f"{move.model_name}: version {holder.version}"
    if state.number_of(holder.checkpoint_sha256) != holder.version:
        raise RefusalError(f"{where} was deleted meanwhile; nothing was moved, run again to decide anew")
    version = state.versions[holder.checkpoint_sha256]
    try:
        refuse_other_weights(client, version, holder.checkpoint_sha256)
        if judged := move.evidence_judged(holder.checkpoint_sha256):
            refuse_other_evidence(client, move.dataset, version, judged)
    except StudyError as error:
        raise RefusalError(f"{where}: {error}; nothing was moved") from None


def _whole_version(client: tracking.MlflowClient, state: ModelState, holder: Holder) -> str:
    """The holder's number now, if its weights are still there and its own."""
    version = state.versions.get(holder.checkpoint_sha256)
    if version is None:
        raise RefusalError(
            f"{state.name}: version {holder.version}, which had the alias before, is gone; promote another"
        )
    try:
        refuse_other_weights(client, version, holder.checkpoint_sha256)
    except StudyError as error:
        raise RefusalError(f"{state.name}: version {version.version}, which had the alias before: {error}") from None
    return str(version.version)


def _whole_challenger(client: tracking.MlflowClient, state: ModelState, holder: Holder | None) -> str | None:
    """None where it is not whole: it must not keep the champion from going back."""
    try:
        return _whole_version(client, state, holder) if holder else None
    except RefusalError as error:
        log.warning("%s; the challenger is left out", error)
        return None
