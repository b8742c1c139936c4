"""The promotion log: data/promotions.jsonl, one line for each move of aliases, only ever appended to.

It lies outside MLflow's store, so that the store can be deleted and made again, and it is meant to be committed. Lines
are told by their order in the file, also after git has joined those of two branches. A line that a power cut broke is
named and skipped; it stays as it is.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from pipeline.errors import RefusalError, StudyError
from pipeline.params import faults_of
from pipeline.promotion.change import CHAMPION, Holders, Move, checkpoint_at

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 120


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time moves aliases.

    Raises:
        StudyError: another one does not come to an end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S):
            yield
    except Timeout:
        raise StudyError(f"{path}.lock: another promotion has held it for {LOCK_TIMEOUT_S} s; wait or end it") from None


def append(path: Path, move: Move) -> None:
    """Adds a line, on the disk when this returns.

    Raises:
        StudyError: the disk is full; what was written of the line will be skipped.
    """
    line = f"{_break_after_broken_line(path)}{move.line}\n".encode()
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.write(file, line) < len(line):
            raise StudyError(f"{path}: no space left; free some and run again, nothing was moved")
        os.fsync(file)
    finally:
        os.close(file)


def read(path: Path) -> list[Move]:
    """All moves, oldest first; none where there is no log.

    Raises:
        StudyError: a line is whole, but not one of this program's.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return [move for number, line in enumerate(lines, 1) if line and (move := _parsed(path, number, line))]


def moves_of(path: Path, model_name: str) -> list[Move]:
    """Those of one registered model."""
    return _of_model(read(path), model_name)


def wanted_aliases(moves: Sequence[Move], model_name: str) -> dict[str, str]:
    """Alias -> checkpoint_sha256, as the moves leave them."""
    wanted = _told(moves, model_name)
    return {alias: holder.checkpoint_sha256 for alias, holder in wanted.items() if holder}


def giver_of(moves: Sequence[Move], alias: str, checkpoint_sha256: str) -> Move | None:
    """The newest move that gave the alias to that checkpoint, or judged it there anew."""
    given = (move for move in reversed(moves) if alias in move.moved_aliases)
    return next((move for move in given if checkpoint_at(move.after, alias) == checkpoint_sha256), None)


def before_last(moves: Sequence[Move], model_name: str, champion_sha256: str | None) -> Holders:
    """Aliases to go back to: those before the last promotion of a champion that has not been rolled back.

    Where the champion was set by hand since, they are those that the log ends with.

    Args:
        champion_sha256: checkpoint of the present champion.

    Raises:
        RefusalError: there was no champion before.
    """
    told = _told(moves, model_name)
    known = checkpoint_at(told, CHAMPION)
    if known is not None and known != champion_sha256:
        return told
    if earlier := _earlier_champions(_of_model(moves, model_name)):
        return earlier[-1]
    raise RefusalError(f"{model_name}: no earlier champion to go back to; the promotion log tells of none")


def _earlier_champions(moves: Sequence[Move]) -> list[Holders]:
    """As a stack: a promotion puts what it displaces on top, going back takes it off."""
    stack: list[Holders] = []
    told: Holders = {}
    for move in moves:
        known, start, end = (checkpoint_at(holders, CHAMPION) for holders in (told, move.before, move.after))
        if move.action == "rollback":
            stack = stack[:-1] if known == start else stack  # from a champion set by hand it leads to the log's last
        else:
            displaced = ([told] if known != start else []) + ([move.before] if start != end else [])
            stack += [holders for holders in displaced if checkpoint_at(holders, CHAMPION)]
        told = {**told, **move.after}
    return stack


def _told(moves: Sequence[Move], model_name: str) -> Holders:
    told: Holders = {}
    for move in _of_model(moves, model_name):
        told |= move.after
    return told


def _break_after_broken_line(path: Path) -> str:
    return "\n" if path.exists() and path.read_bytes()[-1:] not in (b"", b"\n") else ""


def _parsed(path: Path, number: int, line: str) -> Move | None:
    try:
        json.loads(line)
    except ValueError:
        log.warning("%s: line %d is broken and skipped: %.40s", path, number, line)
        return None
    try:
        return Move.of_line(line)
    except ValidationError as error:
        raise StudyError(f"{path}: line {number}: {faults_of(error)}; was it written by a newer version?") from None


def _of_model(moves: Sequence[Move], model_name: str) -> list[Move]:
    return [move for move in moves if move.model_name == model_name]
