"""Files that are whole or absent: written beside their place, then renamed; and their hashes."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import urlsplit

PARTIAL_SUFFIX = ".partial"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def partial_path(path: Path) -> Path:
    return path.with_name(path.name + PARTIAL_SUFFIX)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends well, and vanishes otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of `path` when the block ends well, and vanishes otherwise."""
    partial = partial_path(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
