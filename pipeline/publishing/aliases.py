"""A registered model beside the promotion log: aliases, what its versions tell of them, and the run of the last move.

What went with a store or a version, or was edited, is set again; what a person moved is told and left.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import registry, runs, tracking
from pipeline.promotion.audit import EXPERIMENT, audit_content, audited_models
from pipeline.promotion.change import CHALLENGER, CHAMPION, Move, checkpoint_at
from pipeline.promotion.log import giver_of, locked, moves_of, wanted_aliases
from pipeline.promotion.moving import finish_last_move, write_tags
from pipeline.promotion.rendering import title
from pipeline.promotion.state import OTHER_LOG, PULL, ModelState, cut_off, is_finished, is_of_another_log, state_of
from pipeline.promotion.tags import by_rank, tags_by_checkpoint
from pipeline.publishing.drift import Drift, listed
from pipeline.publishing.reports import OwnRun, publish_run, run_drifts

log = logging.getLogger(__name__)

RIVALS = {CHAMPION: CHALLENGER, CHALLENGER: CHAMPION}  # no version has both


def alias_drifts(client: tracking.MlflowClient, dataset: str, promotion_log: Path) -> list[Drift]:
    """Where a registered model is not as the log left it; looks, and changes nothing."""
    seen = _look(client, dataset, promotion_log)
    if is_of_another_log(seen.state, seen.moves):
        return [Drift(seen.state.name, OTHER_LOG, f"its aliases are left; {PULL}")]
    return [*_drifts(seen), *_audit_drifts(client, seen)]


def restore_aliases(client: tracking.MlflowClient, dataset: str, promotion_log: Path) -> None:
    """Finishes a move that was cut off, or went with the store; sets again aliases that are on no version, and tags."""
    for drift in alias_drifts(client, dataset, promotion_log):
        log.info("%s", drift)
    if not promotion_log.exists():
        return
    finish_last_move(promotion_log, dataset)
    with locked(promotion_log):
        seen = _look(client, dataset, promotion_log)
        if is_of_another_log(seen.state, seen.moves):
            return
        for alias, number in seen.restorable.items():
            client.set_registered_model_alias(seen.state.name, alias, number)
        write_tags(client, seen.state, seen.moves)
        if seen.moves and is_finished(seen.state, seen.moves):
            _restore_audit(client, seen)


@dataclass(frozen=True)
class _Seen:
    """What store and log hold of a registered model."""

    dataset: str
    state: ModelState
    moves: Sequence[Move]

    @property
    def wanted(self) -> dict[str, str]:
        """Alias -> checkpoint, as the log has it."""
        return by_rank(wanted_aliases(self.moves, self.state.name))

    @property
    def is_on_its_way(self) -> bool:
        """Whether publishing finishes the last move."""
        return cut_off(self.state, self.moves) is not None

    @property
    def restorable(self) -> dict[str, str]:
        """Alias -> number of the version to set it on again."""
        numbers = {alias: self.state.number_of(checkpoint) for alias, checkpoint in self.wanted.items()}
        return restorable({alias: number for alias, number in numbers.items() if number}, self.state.aliases)

    @property
    def promote(self) -> str:
        return f"python -m flows.promote --dataset {self.dataset}"


def restorable(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Those on no version, but for one that would make a version both champion and challenger.

    Args:
        wanted: alias -> number; the first come first.
    """
    found: dict[str, str] = {}
    for alias, number in wanted.items():
        rival = {**present, **found}.get(RIVALS.get(alias, ""))
        if alias not in present and rival != number:
            found[alias] = number
    return found


def _look(client: tracking.MlflowClient, dataset: str, promotion_log: Path) -> _Seen:
    name = registry.model_name(dataset)
    return _Seen(dataset, state_of(client, name), moves_of(promotion_log, name))


def _drifts(seen: _Seen) -> Iterator[Drift]:
    faults = [*_faults_of_last_move(seen), *_faults_of_aliases(seen), *_faults_of_tags(seen), *_faults_of_scores(seen)]
    return (Drift(seen.state.name, problem, repair) for problem, repair in faults)


Faults = Iterator[tuple[str, str]]  # problem, what publishing does


def _faults_of_last_move(seen: _Seen) -> Faults:
    if is_finished(seen.state, seen.moves):
        return
    move = seen.moves[-1]
    repair = "carried out" if seen.is_on_its_way else f"left; `{seen.promote}` decides anew"
    yield f"{title(move)} of {move.at}: in the log, but not carried out to its end here", repair


def _faults_of_aliases(seen: _Seen) -> Faults:
    restored = seen.restorable
    for alias, checkpoint in seen.wanted.items():
        number, present = seen.state.number_of(checkpoint), seen.state.aliases.get(alias)
        if number is None:
            lost = f"{alias}: checkpoint {checkpoint[:12]}, promoted by the log, is not registered"
            yield lost, "check out the commit that made it, `dvc checkout`, and publish"
        elif present is None:
            left = f"left off: version {number} is {RIVALS.get(alias)}; `{seen.promote}` decides anew"
            yield f"{alias}: on no version, on {number} by the log", "set again" if alias in restored else left
        elif present != number and not seen.is_on_its_way:
            judge = f"left there; `{seen.promote} --version {present}` judges it and writes it into the log"
            yield f"{alias}: on version {present}, on {number} by the log", judge


def _faults_of_tags(seen: _Seen) -> Faults:
    if seen.is_on_its_way:
        return  # the move writes them
    for checkpoint, tags in tags_by_checkpoint(seen.moves, seen.state.name).items():
        version = seen.state.versions.get(checkpoint)
        if version and (edited := [key for key, value in tags.items() if version.tags.get(key) != value]):
            yield f"version {version.version}: tags edited: {listed(edited)}", "set back"


def _faults_of_scores(seen: _Seen) -> Faults:
    """A champion that was judged on other heatmaps or scores than it shows; the same command judges it anew."""
    checkpoint = seen.state.checkpoint_at(CHAMPION)
    giver = giver_of(seen.moves, CHAMPION, checkpoint) if checkpoint else None
    judged = giver.evidence_judged(checkpoint) if giver and checkpoint else None
    if checkpoint and judged not in (None, seen.state.versions[checkpoint].tags.get(runs.CONTENT_HASH)):
        number = seen.state.aliases[CHAMPION]
        yield (
            f"{CHAMPION}: judged on other scores than it has now",
            f"left; `{seen.promote} --version {number}` judges them",
        )


def _audit_drifts(client: tracking.MlflowClient, seen: _Seen) -> list[Drift]:
    if not seen.moves or not is_finished(seen.state, seen.moves):
        return []
    with audit_content(seen.moves[-1]) as content:
        return run_drifts(client, OwnRun(EXPERIMENT, content), thorough=True)


def _restore_audit(client: tracking.MlflowClient, seen: _Seen) -> None:
    move = seen.moves[-1]
    receiver = checkpoint_at(move.after, move.moved_alias)
    models = audited_models(client, seen.state.versions.get(receiver or ""))
    with audit_content(move) as content:
        publish_run(client, OwnRun(EXPERIMENT, content, models), thorough=True)
