"""Unpack a zip or tar that nobody vouches for: all of it is looked at before the first of its files is written.

Python's own `extractall` mends hostile names in silence and knows no limit; here such an archive is refused.
"""

import errno
import lzma
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryFile
from typing import IO

from pipeline.data.fetching.archive_members import Member, hostile, members_of
from pipeline.data.fetching.limits import BY_HAND, check_count, check_member, check_room, check_total, room_in
from pipeline.data.names import has_image_suffix, is_hidden
from pipeline.errors import StudyError

MAX_DEPTH = 2  # an archive in an archive
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 1024  # what the usual file systems hold
BLOCK_BYTES = 1 << 20
ARCHIVE_ENDINGS = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    ValueError, LookupError,
    RecursionError,  # tarfile calls itself for each header that describes the next
)  # fmt: skip
NO_DISK_ERROR = (None, errno.EINVAL)  # what gzip and bz2 raise, and a seek to before the beginning


@dataclass
class Unpacking:
    """Where an archive goes, and what has been spent on it and on those inside it."""

    folder: Path
    room: int  # bytes that may be written there
    packed: int  # size of the archive
    progress: Callable[[int, int], None]
    kept_names: frozenset[str]
    members: int = 0
    size: int = 0  # of all that is in it
    needed: int = 0  # of that, for what is written
    skipped: int = 0
    files: dict[PurePosixPath, PurePosixPath] = field(default_factory=dict)  # under the keys of `_key`
    folders: set[PurePosixPath] = field(default_factory=set)  # keys of what lies above a file

    def keeps(self, path: PurePosixPath) -> bool:
        return has_image_suffix(path) or path.name.casefold() in self.kept_names


def unpack(
    archive: Path, folder: Path, progress: Callable[[int, int], None], kept_names: frozenset[str] = frozenset()
) -> int:
    """Unpack the images of the archive into `folder`, under their own names, and count the files left out.

    An archive inside it is unpacked where it lies.

    Args:
        kept_names: further files to unpack, by their names in lower case.

    Raises:
        StudyError: it is no archive, is damaged, empty, encrypted or packed in an unusual way, or holds a link, two
            names for one file, a name that leads out of the folder, archives three deep, or more than the disk can hold
            or honest images can swell to.
    """
    with _readable(str(archive)):
        folder.mkdir(parents=True, exist_ok=True)
        unpacking = Unpacking(folder, room_in(folder), archive.stat().st_size, progress, kept_names)
        file = archive.open("rb")
    with file:
        _unpack(file, str(archive), PurePosixPath(), MAX_DEPTH, unpacking)
    if not unpacking.members:
        raise StudyError(f"{archive}: holds nothing; download it again")
    return unpacking.skipped


def check_is_archive(path: Path) -> None:
    """Looks at its beginning and its end.

    Raises:
        StudyError: it is neither a zip nor a tar, or a zip without its end.
    """
    with _readable(str(path)), path.open("rb") as file:
        members_of(file, str(path))


@contextmanager
def _readable(shown: str) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise _damaged(shown, error) from None
    except OSError as error:
        if error.errno in NO_DISK_ERROR:
            raise _damaged(shown, error) from None
        raise StudyError(f"{shown}: cannot be unpacked: {error}") from None


def _damaged(shown: str, error: Exception) -> StudyError:
    return StudyError(f"{shown}: the archive is damaged or incomplete ({error}); download it again")


def _unpack(file: IO[bytes], shown: str, place: PurePosixPath, depth: int, unpacking: Unpacking) -> None:
    with _readable(shown):
        members = _checked(members_of(file, shown), shown, unpacking)
    wanted = [member for member in members if _is_wanted(member, unpacking)]
    unpacking.needed += sum(member.size for member in wanted)
    check_room(unpacking.needed, unpacking.room, unpacking.folder, shown)
    unpacking.skipped += sum(not member.is_folder for member in members) - len(wanted)
    _claim_names(members, wanted, shown, place, unpacking)
    for done, member in enumerate(wanted, start=1):
        _unpack_member(member, shown, place, depth, unpacking)
        unpacking.progress(done, len(wanted))


def _unpack_member(member: Member, shown: str, place: PurePosixPath, depth: int, unpacking: Unpacking) -> None:
    if unpacking.keeps(member.path):
        with _readable(shown):
            _write(member, unpacking.folder / place / member.path, shown)
        return
    if depth == 1:
        raise StudyError(f"{shown}: {member.path}: archives are nested too deep; {BY_HAND}")
    with TemporaryFile(dir=unpacking.folder) as inner:
        with _readable(shown):
            _copy(member, inner, shown)
        _unpack(inner, f"{shown}: {member.path}", place / member.path.parent, depth - 1, unpacking)


def _write(member: Member, target: Path, shown: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as written:
        _copy(member, written, shown)


def _copy(member: Member, target: IO[bytes], shown: str) -> None:
    """Counts what comes, since the size that was checked is only what the archive says."""
    source = member.open()
    assert source is not None  # tarfile gives None for links and folders, of which none is wanted
    left = member.size
    with source:
        while left >= 0 and (block := source.read(BLOCK_BYTES)):
            left -= len(block)
            target.write(block)
    if left:
        raise StudyError(f"{shown}: {member.path} has another size than the archive says; download it again")


def _is_wanted(member: Member, unpacking: Unpacking) -> bool:
    is_archive = member.path.name.lower().endswith(ARCHIVE_ENDINGS)
    return not member.is_folder and not is_hidden(member.path) and (is_archive or unpacking.keeps(member.path))


def _checked(members: Iterator[Member], shown: str, unpacking: Unpacking) -> list[Member]:
    """The members, if none of them is too much; a compressed tar is read no further than to the first that is."""
    checked = []
    for member in members:
        unpacking.size += member.size
        unpacking.members += 1
        check_count(unpacking.members, shown)
        if _is_wanted(member, unpacking):
            check_member(member.size, member.packed, str(member.path), shown)
        check_total(unpacking.size, unpacking.packed, shown)
        checked.append(member)
    return checked


def _claim_names(
    members: Iterable[Member], wanted: Iterable[Member], shown: str, place: PurePosixPath, unpacking: Unpacking
) -> None:
    """Gives each file its name, which on no system may be that of another file or of a folder."""
    for member in wanted:
        _check_name(member.path, place / member.path, shown)
        if unpacking.keeps(member.path):
            _claim(place / member.path, shown, unpacking)
    unpacking.folders.update(_key(place / member.path) for member in members if member.is_folder)
    for key in unpacking.files.keys() & unpacking.folders:
        raise StudyError(f"{shown}: holds {unpacking.files[key]} as a file and as a folder; {BY_HAND}")


def _claim(path: PurePosixPath, shown: str, unpacking: Unpacking) -> None:
    key = _key(path)
    if other := unpacking.files.get(key):
        pair = f"{path} twice" if other == path else f"{other} and {path}, which are one file on some systems"
        raise StudyError(f"{shown}: holds {pair}; {BY_HAND}")
    unpacking.files[key] = path
    unpacking.folders.update(key.parents)


def _check_name(name: PurePosixPath, path: PurePosixPath, shown: str) -> None:
    text = str(path)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise hostile(shown, str(name), "holds control characters or is not Unicode")
    if len(text.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
        raise hostile(shown, f"{name.name[:40]}...", "is too long a name")


def _key(path: PurePosixPath) -> PurePosixPath:
    """Equal for names that some system takes for one: whatever the case, and é as one letter or as two."""
    return PurePosixPath(unicodedata.normalize("NFD", str(path)).casefold())
