"""Files that are whole or absent: written beside their place, then renamed; and their hashes."""

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

from pipeline.errors import StudyError

PARTIAL_SUFFIX = ".partial"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, in the user's share of it, or for one file
# What libraries say in words of their own: safetensors, many, SQLite, NumPy.
FULL_IN_WORDS = re.compile(
    rf"\(os error ({'|'.join(map(str, FULL))})\)|No space left on device|database or disk is full|"
    r"\d+ requested and \d+ written"
)


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL_SUFFIX)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        with full_disk_named(path):
            yield partial
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of `path` when the block ends well, and vanishes otherwise."""
    partial, replaced = partial_path(path), partial_path(path.with_name(f"{path.name}.replaced"))
    for left in (partial, replaced):
        shutil.rmtree(left, ignore_errors=True)
    try:
        with full_disk_named(path):
            partial.mkdir(parents=True)
            yield partial
            if path.exists():  # renamed first: a kill while it is removed would leave half of it in its place
                path.replace(replaced)
            partial.replace(path)
    finally:
        for left in (partial, replaced):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """A block that writes `path`.

    Raises:
        StudyError: there was no room for it, whatever the library that wrote it says of that.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, StudyError) or not is_full_disk(error):
            raise
        raise StudyError(no_room_for(path)) from None


def is_full_disk(error: BaseException) -> bool:
    """Whether it, or an error that led to it, says that there was no room for what was to be written."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if FULL_IN_WORDS.search(str(error)):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and is_full_disk(before)


def no_room_for(path: Path | str) -> str:
    return f"{path}: no space left on its disk; free some and run again, nothing half-written stays"


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def base_name(path: str) -> str:
    """The last part of a path or URL, in either style of slashes."""
    return path.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]


def is_absolute(path: str) -> bool:
    """Whether it says where something lies on this machine, in either style."""
    return path.startswith("~") or PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()


def is_address(text: str) -> bool:
    return bool(ADDRESS.match(text))


def without_query(address: str) -> str:
    """The address without what may be a secret: a login, or a token in the query."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def told(text: str) -> str:
    """The text for a record that others read: no place on this machine, no secret of an address."""
    if is_address(text):
        return without_query(text)
    return base_name(text) if is_absolute(text) else text


def files_under(folder: Path) -> list[Path]:
    """Every file in it and in its folders, in a fixed order; none where there is no such folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256_of(*paths: Path) -> str:
    """SHA-256 (hex) over the content of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
