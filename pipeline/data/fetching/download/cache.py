"""The downloads that all projects of a user share: a folder per address, with the file, its record and a lock."""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from pydantic import BaseModel, ValidationError

from pipeline.errors import StudyError
from pipeline.files import partial_path, sha256_of, write_text

log = logging.getLogger(__name__)

VARIABLE = "DATASET_CACHE"
Kind = TypeVar("Kind", bound=BaseModel)
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


class Record(BaseModel, frozen=True):
    """Of a file that came whole."""

    url: str  # without its query
    sha256: str
    size_bytes: int
    etag: str


class Origin(BaseModel, frozen=True):
    """What the server said of a file of which the first bytes are here; by that it is known again."""

    etag: str = ""
    last_modified: str = ""
    total: int = 0  # bytes; 0 if the server does not know

    @property
    def validator(self) -> str:
        """For If-Range, where a weak tag does not count; empty if there is none."""
        return self.last_modified if self.etag.startswith("W/") else self.etag or self.last_modified


@dataclass(frozen=True)
class Partial:
    """The first bytes of a file, left by a download that was cut."""

    path: Path

    @property
    def origin_path(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def origin(self) -> Origin:
        return read(Origin, self.origin_path) or Origin()

    def restart(self, origin: Origin) -> None:
        self.path.open("wb").close()  # before the origin changes: old bytes must never stand under a new tag
        write_text(self.origin_path, origin.model_dump_json())

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.origin_path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Entry:
    """The place of one address in the cache."""

    archive: Path

    @property
    def record_path(self) -> Path:
        return self.archive.with_name(self.archive.name + ".json")

    @property
    def record(self) -> Record | None:
        return read(Record, self.record_path)

    @property
    def partial(self) -> Partial:
        return Partial(partial_path(self.archive))

    def is_whole(self, record: Record) -> bool:
        """Whether the file is there and is still the one that came."""
        there = self.archive.is_file() and self.archive.stat().st_size == record.size_bytes
        return there and sha256_of(self.archive) == record.sha256

    def keep(self, record: Record) -> None:
        """The partial file, verified, becomes the file."""
        write_text(self.record_path, record.model_dump_json(indent=2) + "\n")
        self.partial.path.replace(self.archive)
        self.partial.drop()

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """For one process at a time; the system unlocks what a killed one held."""
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.archive.with_name(self.archive.name + ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("%s: another process downloads it; waits for that", key)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def read(kind: type[Kind], path: Path) -> Kind | None:
    """None where there is none, or one that somebody spoilt."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def cache_folder() -> Path:
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    return user_cache_path("vit-explainability-study", appauthor=False) / "downloads"


def entry_of(url: str) -> Entry:
    """The file keeps the name that ends the address; the folder tells it from others of that name."""
    parts = urlsplit(url)
    name = UNSAFE.sub("_", unquote(parts.path).rpartition("/")[2]).strip("._")[-100:] or "archive"
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Entry(cache_folder() / f"{UNSAFE.sub('_', parts.hostname or '')}-{digest}" / name)


@contextmanager
def usable_cache(key: str) -> Iterator[None]:
    """What goes wrong with the disk inside is told in one line.

    Raises:
        StudyError: the cache cannot be written or read, or its disk is full.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space, or set" if full else "set"
        raise StudyError(
            f"{key}.source: the cache {cache_folder()} cannot be used: {error.strerror or error}; "
            f"{remedy} {VARIABLE} to a folder that can hold the download"
        ) from None
