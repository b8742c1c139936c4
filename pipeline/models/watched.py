"""Calls of a client that downloads, left to themselves as soon as nothing new reaches the disk."""

import atexit
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TypeVar

LOOK_S = 0.2  # between two looks at what the client has written

T = TypeVar("T")


@dataclass
class Watch:
    """One clock for all the calls that it takes to get a file: only new bytes of the file set it back.

    What another process writes is a sign of life too, since the client waits for that. What is written once more after
    a cut is none: behind a proxy that always cuts at the same byte, and knows no ranges, there would be no end.
    """

    folder: Path  # where the client writes, to *.incomplete
    give_up_s: float
    most: Counter[Path] = field(default_factory=Counter)  # bytes that each file ever had
    since: float = field(default_factory=monotonic)

    def __post_init__(self) -> None:
        self.most = unfinished(self.folder)

    def run(self, call: Callable[[], T]) -> T:
        """What `call` returns; raises TimeoutError."""
        before, outcome = unfinished(self.folder), _in_background(call)
        try:
            while not wait([outcome], LOOK_S).done:
                self._look()
        finally:  # given up or interrupted: the client clears up, unless the process ends first
            if not outcome.done():
                for path in unfinished(self.folder).keys() - before.keys():
                    atexit.register(path.unlink, missing_ok=True)
        return outcome.result()

    def _look(self) -> None:
        before, self.most = self.most, self.most | unfinished(self.folder)
        if self.most != before:
            self.since = monotonic()
        elif monotonic() - self.since > self.give_up_s:
            raise TimeoutError(f"nothing new came for {self.give_up_s:g} s")


def unfinished(folder: Path) -> Counter[Path]:
    """The files that are being downloaded, and how many bytes each has."""
    sizes: Counter[Path] = Counter()
    for path in folder.glob("*.incomplete"):
        with suppress(FileNotFoundError):  # it is whole by now, and in its place
            sizes[path] = path.stat().st_size
    return sizes


def _in_background(call: Callable[[], T]) -> Future[T]:
    """A thread that nothing waits for, not even the end of the process; no executor has such."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # told to whoever waits
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome
