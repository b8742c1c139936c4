"""Long work in shards: independent calls, each with one whole-or-absent file of arrays as its result.

A shard whose file is there is not done again, so that a kill, or a lost worker, costs the shard that was at work. The
files lie in a folder named by the key of everything that decides them, and go once the whole is written.
"""

import logging
import os
import shutil
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.files import whole_file

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
DAMAGES = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Shard:
    """A call of a function that a module has by name, so that another process can make it, and the file it makes."""

    path: Path
    function: Callable[..., Arrays]
    arguments: tuple

    def __call__(self) -> None:
        """Makes the file unless it is there."""
        if self.path.exists():
            return
        arrays = self.function(*self.arguments)
        # Two workers may be at one shard, where the first was taken for dead: each writes a file of its own.
        own = self.path.with_name(f"{self.path.stem}.{socket.gethostname()}-{os.getpid()}")
        with whole_file(own) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub
        own.replace(self.path)

    def read(self) -> Arrays | None:
        """None where the file is absent or damaged; the latter is removed."""
        try:
            with np.load(self.path) as held:
                return {name: held[name] for name in held.files}
        except FileNotFoundError:
            return None
        except DAMAGES as error:
            logger.warning("%s: damaged (%s); it is made anew", self.path, error)
            self.path.unlink()
            return None


Spread = Callable[[Sequence[Shard]], Iterator[int]]  # makes the shards; yields the number of each that is done


def one_by_one(shards: Sequence[Shard]) -> Iterator[int]:
    """In this process, in order."""
    for number, shard in enumerate(shards):
        shard()
        yield number


@dataclass(frozen=True)
class Scratch:
    """Where shards are kept while the whole is unfinished, and which processes make them."""

    folder: Path | None = None  # None: in memory only, and a killed run starts anew
    spread: Spread = one_by_one

    @property
    def is_here(self) -> bool:
        """Whether shards are made in this process."""
        return self.spread is one_by_one


IN_MEMORY = Scratch()


@dataclass(frozen=True)
class Shards:
    """The shards of one piece of work; those of another key are removed."""

    scratch: Scratch
    key: str
    _folder: Path | None = field(init=False)

    def __post_init__(self) -> None:
        folder = self.scratch.folder
        object.__setattr__(self, "_folder", folder and folder / self.key[:16])
        if folder and folder.is_dir():
            for other in set(folder.iterdir()) - {self._folder}:
                shutil.rmtree(other)

    def run(
        self, name: str, function: Callable[..., Arrays], calls: Sequence[tuple], done: Callable[[int], None]
    ) -> list[Arrays]:
        """What the function returns for each of the calls, in their order.

        Args:
            name: of this run of shards, one for each function.
            done: told the number of each call once its shard is there; in no order.
        """
        if self._folder is None:
            return list(_in_memory(function, calls, done))
        shards = [Shard(self._folder / f"{name}-{number}.npz", function, call) for number, call in enumerate(calls)]
        results = {number: arrays for number, shard in enumerate(shards) if (arrays := shard.read()) is not None}
        if results:
            logger.info("going on after %d of %d shards of %s", len(results), len(shards), name)
        for number in results:
            done(number)
        left = [number for number in range(len(shards)) if number not in results]
        for position in self.scratch.spread([shards[number] for number in left]):
            done(left[position])
        return [results[number] if number in results else _made(shard) for number, shard in enumerate(shards)]

    def clear(self) -> None:
        """To be called when the whole is written."""
        if self.scratch.folder:
            shutil.rmtree(self.scratch.folder, ignore_errors=True)


def slices(count: int, batch_size: int, about: int) -> list[slice]:
    """0 to `count` in parts of whole batches, each of about as many items as said, so that batches lie as without."""
    size = max(1, about // batch_size) * batch_size
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def adder(progress: Callable[[int, int], None], total: int, unit: str) -> Callable[[int], None]:
    """Adds up what is done, for a bar and for whoever asked."""
    bar, so_far = tqdm(total=total, unit=unit, disable=None), 0

    def done(more: int) -> None:
        nonlocal so_far
        so_far += more
        bar.update(more)  # a bar that is not shown does not count
        progress(so_far, total)

    return done


def _in_memory(
    function: Callable[..., Arrays], calls: Sequence[tuple], done: Callable[[int], None]
) -> Iterator[Arrays]:
    for number, call in enumerate(calls):
        yield function(*call)
        done(number)


def _made(shard: Shard) -> Arrays:
    """Read back; made here where it went lost on the way."""
    arrays = shard.read()
    return shard.function(*shard.arguments) if arrays is None else arrays
