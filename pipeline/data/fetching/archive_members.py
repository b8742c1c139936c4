"""What a zip or tar holds, read with suspicion: a name that leads elsewhere, a link or a lie is refused, not mended."""

import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import SEEK_END
from itertools import pairwise
from pathlib import PurePosixPath
from typing import IO

from pipeline.data.fetching.limits import BY_HAND
from pipeline.errors import StudyError

MAX_HEADER_BYTES = 1 << 14  # of a long name in a tar; tarfile reads it in one go and searches it in quadratic time
MAX_PADDING_BYTES = 1 << 24  # zeros at the end of a tar
FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"\x28\xb5\x2f\xfd": "zstd"}
DRIVE = re.compile(r"[A-Za-z]:")
ENCRYPTED, AES = 0x1 | 0x40, 99  # flags of a file in a zip, and a method that stands for encryption
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # of all others zipfile unpacks whole blocks, whatever their size
RARE_METHODS = {9: "Deflate64", 12: "BZip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}
LOCAL_HEADER_BYTES = 30  # in a zip before each file, its name not counted
LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file or folder inside an archive."""

    path: PurePosixPath
    size: int
    packed: int  # bytes from which it unpacks: its own, or in a tar, where nobody knows those, the whole archive's
    is_folder: bool
    open: Callable[[], IO[bytes] | None]


class CheckedTarInfo(tarfile.TarInfo):
    """A tar's header; tarfile itself takes a damaged one for the end, and the size of a long name for granted."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "CheckedTarInfo":
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if buf and not any(buf):
                raise  # the zeros at the end
            raise tarfile.ReadError("a header is damaged, or the end is missing") from None
        if info.type in LONG_HEADERS and not 0 <= info.size <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a name of {info.size:,} bytes")
        return info


def is_web_page(head: bytes) -> bool:
    """Whether a file that begins so is what servers send in place of the one that was asked for."""
    return head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")


def members_of(file: IO[bytes], shown: str) -> Iterator[Member]:
    """What a zip or tar holds, none of it a link; an iterator, so that a bomb is not read to its end."""
    packed = file.seek(0, SEEK_END)
    file.seek(0)
    head = file.read(1024)
    file.seek(0)
    if is_web_page(head):
        raise StudyError(f"{shown}: a web page, not an archive: a download that failed; download it again in a browser")
    if foreign := next((kind for magic, kind in FOREIGN.items() if head.startswith(magic)), ""):
        raise StudyError(f"{shown}: a {foreign} archive, neither a zip nor a tar; {BY_HAND}")
    if head.startswith(b"PK"):
        return _zip_members(zipfile.ZipFile(file), shown)
    try:
        return _tar_members(tarfile.open(fileobj=file, tarinfo=CheckedTarInfo), packed, shown)
    except tarfile.ReadError:
        raise StudyError(f"{shown}: neither a zip nor a tar archive; give the path of an archive or a folder") from None


def _zip_members(archive: zipfile.ZipFile, shown: str) -> Iterator[Member]:
    _check_overlaps(archive, shown)
    for info in archive.infolist():
        path = _safe_path(info.filename, shown)
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise hostile(shown, info.filename, "is a link or a device")
        _check_packing(info, shown)
        yield Member(path, info.file_size, info.compress_size, info.is_dir(), partial(archive.open, info))


def _check_overlaps(archive: zipfile.ZipFile, shown: str) -> None:
    """Files that share their bytes are how a small archive unpacks to anything."""
    entries = archive.infolist()
    parts = sorted(
        (info.header_offset, info.header_offset + LOCAL_HEADER_BYTES + info.compress_size) for info in entries
    )
    for (_, end), (start, _) in pairwise([*parts, (archive.start_dir, 0)]):
        if end > start:
            raise StudyError(f"{shown}: files in it overlap, as in no honest archive; get it from its own source")


def _check_packing(info: zipfile.ZipInfo, shown: str) -> None:
    if info.flag_bits & ENCRYPTED or info.compress_type == AES:
        raise StudyError(f"{shown}: {info.filename!r} is encrypted; {BY_HAND}")
    if info.compress_type not in METHODS:
        name = RARE_METHODS.get(info.compress_type, "unknown")
        raise StudyError(f"{shown}: {info.filename!r} is packed by method {info.compress_type} ({name}); {BY_HAND}")
    if info.volume:
        raise StudyError(f"{shown}: one of several parts; {BY_HAND}")


def _tar_members(archive: tarfile.TarFile, packed: int, shown: str) -> Iterator[Member]:
    for info in archive:
        path = _safe_path(info.name, shown)
        if not (info.isfile() or info.isdir()) or info.issparse():
            raise hostile(shown, info.name, "is a link or a device, or has holes")
        if info.size < 0:
            raise tarfile.ReadError("a negative size")
        size = info.size if info.isfile() else 0
        yield Member(path, size, packed, info.isdir(), partial(archive.extractfile, info))
    _check_end(archive)


def _check_end(archive: tarfile.TarFile) -> None:
    """Behind the last file are zeros; reading them also compares the checksum of the compression."""
    assert archive.fileobj is not None
    rest = archive.fileobj.read(MAX_PADDING_BYTES + 1)
    if len(rest) > MAX_PADDING_BYTES or rest.strip(b"\0"):
        raise tarfile.ReadError("something follows its end")


def _safe_path(name: str, shown: str) -> PurePosixPath:
    """The name as a path below the folder; a backslash separates folders, as it does where such archives come from."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or DRIVE.match(name) or "\0" in name:
        raise hostile(shown, name, "leads out of the folder")
    return path


def hostile(shown: str, name: str, reason: str) -> StudyError:
    return StudyError(f"{shown}: {name!r} {reason}; nothing was unpacked, get the archive from its own source")
