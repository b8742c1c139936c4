"""A registered model as the store has it now, and how far that is along the promotion log.

The hash of the last line that was carried out is a tag of the registered model. Where the log does not have that line,
the aliases were moved from another clone or a newer commit, and this log may not speak of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline import registry, tracking
from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.change import Holder, Holders, Move, checkpoint_at
from pipeline.promotion.planning import Wanted

FINISHED = "promotion.log_sha256"
OTHER_LOG = "promoted from another log"
PULL = f"`git pull`; should that log be lost, delete the tag {FINISHED} of the registered model"


@dataclass(frozen=True)
class ModelState:
    """Versions by checkpoint, under the numbers that they have in this store."""

    name: str
    versions: Mapping[str, registry.ModelVersion]
    checkpoints: Mapping[str, str]  # by number; without versions of which nothing tells it any more
    aliases: Mapping[str, str]  # -> number
    finished: str | None  # hash of the last line of the log that was carried out

    def number_of(self, checkpoint_sha256: str) -> str | None:
        version = self.versions.get(checkpoint_sha256)
        return str(version.version) if version else None

    def numbers(self, *aliases: str) -> Wanted:
        return {alias: self.aliases.get(alias) for alias in aliases}

    def checkpoint_at(self, alias: str) -> str | None:
        return self.checkpoints.get(self.aliases.get(alias, ""))

    def holders(self, numbers: Wanted) -> Holders:
        """The versions with their checkpoints, for the log.

        Raises:
            RefusalError: nothing tells a version's checkpoint.
        """
        return {alias: self._holder(number) if number else None for alias, number in numbers.items()}

    def _holder(self, number: str) -> Holder:
        if number not in self.checkpoints:
            raise RefusalError(
                f"{self.name}: version {number} has lost its logged model and the tag {registry.CHECKPOINT}; "
                "`python -m flows.publish` writes them again while the study has them"
            )
        return Holder(version=number, checkpoint_sha256=self.checkpoints[number])


def state_of(client: tracking.MlflowClient, name: str) -> ModelState:
    """Each logged model is looked up once."""
    found = [(version, registry.checkpoint_of(client, version)) for version in registry.versions_of(client, name)]
    known = [(version, checkpoint) for version, checkpoint in found if checkpoint]
    return ModelState(
        name=name,
        versions={checkpoint: version for version, checkpoint in reversed(known)},  # of two alike the older
        checkpoints={str(version.version): checkpoint for version, checkpoint in known},
        aliases=registry.aliases_of(client, name),
        finished=registry.model_tags(client, name).get(FINISHED),
    )


def is_of_another_log(state: ModelState, moves: Sequence[Move]) -> bool:
    return state.finished is not None and state.finished not in {move.sha256 for move in moves}


def is_finished(state: ModelState, moves: Sequence[Move]) -> bool:
    """Whether the log's last line was carried out here."""
    return not moves or state.finished == moves[-1].sha256


def cut_off(state: ModelState, moves: Sequence[Move]) -> Move | None:
    """The log's last move, where it was cut off or the store was made again since, and may be finished.

    It may not where an alias was moved elsewhere since, nor where it is an older line that git left last.
    """
    if is_finished(state, moves) or not state.versions:
        return None
    return moves[-1] if _is_next(state, moves) and _is_on_its_way(state, moves[-1]) else None


def refuse_another_log(state: ModelState, moves: Sequence[Move]) -> None:
    """
    Raises:
        StudyError: a promotion now would pass over those that the log does not know.
    """
    if is_of_another_log(state, moves):
        raise StudyError(f"{state.name}: {OTHER_LOG}, which has lines that this one has not; {PULL}")


def _is_next(state: ModelState, moves: Sequence[Move]) -> bool:
    if state.finished is None:
        return True
    return state.finished in {move.sha256 for move in moves[-2:-1] if move.at <= moves[-1].at}


def _is_on_its_way(state: ModelState, move: Move) -> bool:
    """Each alias is where the move found it, where it puts it, or on no version."""
    present = {alias: state.checkpoint_at(alias) for alias in move.after if alias in state.aliases}
    return all(
        checkpoint is not None and checkpoint in (checkpoint_at(move.before, alias), checkpoint_at(move.after, alias))
        for alias, checkpoint in present.items()
    )
