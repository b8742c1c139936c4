"""Unpack a zip or tar that nobody vouches for: all of it is looked at before the first of its files is written.

Python's own `extractall` mends hostile names in silence and knows no limit; here such an archive is refused.
"""

import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import IO

from pipeline.data.index import has_image_suffix, is_hidden
from pipeline.errors import StudyError

MAX_MEMBERS = 200_000  # PBC has 17,093
MAX_BYTES = 16 << 30  # unpacked, inner archives included; PBC has 0.3 GB
MAX_RATIO = 100  # unpacked to packed; images hardly shrink, bombs reach 1000
FREE_BYTES = 1 << 20  # unpacked, up to which the ratio does not matter
MAX_DEPTH = 2  # an archive in an archive
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
DRIVE = re.compile(r"[A-Za-z]:")
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    UnicodeDecodeError,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file inside an archive."""

    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes] | None]


@dataclass
class Unpacking:
    """Where an archive goes, and what has been spent on it and on those inside it."""

    folder: Path
    progress: Callable[[int, int], None]
    members: int = 0
    size: int = 0
    skipped: int = 0
    names: set[PurePosixPath] = field(default_factory=set)


def unpack(archive: Path, folder: Path, progress: Callable[[int, int], None]) -> int:
    """Unpack the images of the archive into `folder`, under their own names, and count the files left out.

    An archive inside it is unpacked where it lies.

    Raises:
        StudyError: it is no archive, is damaged or encrypted, or holds a link, a double name, a name that leads out of
            the folder, archives three deep, or more than an image set can need.
    """
    unpacking = Unpacking(folder, progress)
    with archive.open("rb") as file:
        _unpack(file, str(archive), PurePosixPath(), MAX_DEPTH, unpacking)
    return unpacking.skipped


def _unpack(file: IO[bytes], shown: str, place: PurePosixPath, depth: int, unpacking: Unpacking) -> None:
    try:
        packed = file.seek(0, 2)
        file.seek(0)
        members = _checked(_members(file, shown), packed, shown, place, unpacking)
        wanted = [member for member in members if not is_hidden(member.path) and _is_wanted(member.path)]
        unpacking.skipped += len(members) - len(wanted)
        for done, member in enumerate(wanted, start=1):
            _unpack_member(member, shown, place, depth, unpacking)
            unpacking.progress(done, len(wanted))
    except DAMAGE as error:
        raise StudyError(f"{shown}: the archive is damaged or incomplete ({error}); download it again") from None
    except OSError as error:
        raise StudyError(f"{shown}: cannot be unpacked: {error}") from None


def _unpack_member(member: Member, shown: str, place: PurePosixPath, depth: int, unpacking: Unpacking) -> None:
    if has_image_suffix(member.path):
        target = unpacking.folder / place / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as written:
            _copy(member, written)
        return
    if depth == 1:
        raise StudyError(f"{shown}: {member.path}: archives are nested too deep; unpack it and give the folder's path")
    with TemporaryFile(dir=unpacking.folder) as inner:
        _copy(member, inner)
        _unpack(inner, f"{shown}: {member.path}", place / member.path.parent, depth - 1, unpacking)


def _copy(member: Member, target: IO[bytes]) -> None:
    source = member.open()
    assert source is not None  # tarfile gives None for links and folders, of which there is none here
    with source:
        copyfileobj(source, target, 1 << 20)


def _is_wanted(path: PurePosixPath) -> bool:
    return has_image_suffix(path) or path.name.lower().endswith(ARCHIVE_ENDINGS)


def _checked(
    members: Iterator[Member], packed: int, shown: str, place: PurePosixPath, unpacking: Unpacking
) -> list[Member]:
    """The members, if none of them is too much; a compressed tar is read no further than to the first that is."""
    checked, size = [], 0
    for member in members:
        size += member.size
        unpacking.size += member.size
        unpacking.members += 1
        if unpacking.size > MAX_BYTES or unpacking.members > MAX_MEMBERS:
            raise StudyError(
                f"{shown}: holds more than {MAX_MEMBERS:,} files or {MAX_BYTES:,} bytes; is it the image set?"
            )
        if size > max(MAX_RATIO * packed, FREE_BYTES):
            raise StudyError(f"{shown}: unpacks to over {MAX_RATIO} times its size, as no images do; download it again")
        path = place / member.path
        if has_image_suffix(path) and path in unpacking.names:
            raise StudyError(f"{shown}: holds {path} twice; unpack it by hand and give the folder's path")
        unpacking.names.add(path)
        checked.append(member)
    return checked


def _members(file: IO[bytes], shown: str) -> Iterator[Member]:
    """The files in a zip or tar, none of them a link; an iterator, so that a bomb is not read to its end."""
    head = file.read(1024)
    file.seek(0)
    if head.lstrip().startswith(b"<"):
        raise StudyError(f"{shown}: a web page, not an archive: a download that failed; download it again in a browser")
    if head.startswith(b"PK"):
        return _zip_members(zipfile.ZipFile(file), shown)
    try:
        return _tar_members(tarfile.open(fileobj=file), shown)
    except tarfile.ReadError:
        raise StudyError(f"{shown}: neither a zip nor a tar archive; give the path of an archive or a folder") from None


def _zip_members(archive: zipfile.ZipFile, shown: str) -> Iterator[Member]:
    for info in archive.infolist():
        path = _safe_path(info.filename, shown)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _hostile(shown, info.filename, "is a link or a device")
        if info.flag_bits & 1:
            raise StudyError(f"{shown}: {info.filename} is encrypted; unpack it by hand and give the folder's path")
        if not info.is_dir():
            yield Member(path, info.file_size, partial(archive.open, info))


def _tar_members(archive: tarfile.TarFile, shown: str) -> Iterator[Member]:
    for info in archive:
        path = _safe_path(info.name, shown)
        if not (info.isfile() or info.isdir()):
            raise _hostile(shown, info.name, "is a link or a device")
        if info.isfile():
            yield Member(path, info.size, partial(archive.extractfile, info))


def _safe_path(name: str, shown: str) -> PurePosixPath:
    """The name as a path below the folder; a backslash separates folders, as it does where such archives come from."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or DRIVE.match(name) or "\0" in name:
        raise _hostile(shown, name, "leads out of the folder")
    return path


def _hostile(shown: str, name: str, reason: str) -> StudyError:
    return StudyError(f"{shown}: {name!r} {reason}; nothing was unpacked, get the archive from its own source")
