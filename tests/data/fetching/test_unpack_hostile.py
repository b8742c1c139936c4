"""Archives that lie: about names, sizes, their kind or their end."""

import io
import struct
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from pipeline.data.fetching import archive, limits
from pipeline.data.fetching.archive import unpack
from pipeline.data.fetching.archive_members import Member
from pipeline.errors import StudyError
from tests.data.fetching.test_unpack import IMAGE, tar_with, tarred, unpacked, zipped
from tests.data.sets import ignore

GOOD = {"ig/a.png": IMAGE, "ig/b.png": IMAGE}


def zip_with(content: bytes, offset: int, kind: str, value: int) -> bytes:
    """The first file's entry in the central directory, changed at that offset."""
    changed = bytearray(content)
    struct.pack_into(kind, changed, content.index(b"PK\x01\x02") + offset, value)
    return bytes(changed)


def shifted(content: bytes) -> bytes:
    """Its directory claims to lie 99 bytes further on, so that the first file lies before the beginning."""
    changed = bytearray(content)
    place = content.index(b"PK\x05\x06") + 16
    struct.pack_into("<I", changed, place, struct.unpack_from("<I", content, place)[0] + 99)
    return bytes(changed)


def packed_by(method: int) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", method) as file:
        file.writestr("ig/a.png", IMAGE)
    return buffer.getvalue()


def overlapping() -> bytes:
    """Two entries whose bytes are the same."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("ig/a.png", IMAGE)
        file.writestr("ig/b.png", IMAGE)
        file.getinfo("ig/b.png").header_offset = 0
    return buffer.getvalue()


def entry(name: str, content: bytes = IMAGE, **fields: object) -> bytes:
    """A tar's header and content, without an end."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def with_attributes(**attributes: str) -> bytes:
    """A tar with one good name, to which further headers add."""
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=tarfile.PAX_FORMAT) as file:
        info = tarfile.TarInfo("ig/a.png")
        info.size, info.pax_headers = len(IMAGE), {name.replace("__", "."): value for name, value in attributes.items()}
        file.addfile(info, io.BytesIO(IMAGE))
    return buffer.getvalue()


def extended_holes() -> bytes:
    """A tar whose list of holes goes on behind its end."""
    header = bytearray(entry("ig/a.png", b"", type=tarfile.GNUTYPE_SPARSE))
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return entry("ig/b.png") + bytes(header)


def damaged_header() -> bytes:
    """A tar whose second header has another checksum."""
    content = bytearray(tarred(GOOD, ""))
    content[content.index(b"ig/b.png")] ^= 1
    return bytes(content)


def damaged_checksum() -> bytes:
    content = bytearray(tarred(GOOD))
    content[-8] ^= 1
    return bytes(content)


END = bytes(1024)
LONG = "d" * 200
NAMES = {
    "case": ({"ig/a.png": IMAGE, "ig/A.PNG": IMAGE}, r"ig/a\.png and ig/A\.PNG, which are one file on some systems"),
    "case of the folder": ({"ig/a.png": IMAGE, "IG/a.png": IMAGE}, "which are one file"),
    "accent": ({"ig/caf\u00e9.png": IMAGE, "ig/cafe\u0301.png": IMAGE}, "which are one file"),
    "dots": ({"ig/a.png": IMAGE, "ig/./a.png": IMAGE}, r"holds ig/a\.png twice"),
    "file, then folder": ({"ig/a.png": IMAGE, "ig/a.png/b.png": IMAGE}, r"holds ig/a\.png as a file and as a folder"),
    "folder, then file": ({"ig/A.png/b.png": IMAGE, "ig/a.png": IMAGE}, "as a file and as a folder"),
    "long": ({"ig/" + 300 * "a" + ".png": IMAGE}, "is too long a name"),
    "long in bytes": ({"ig/" + 100 * "細" + ".png": IMAGE}, "is too long a name"),
    "long path": ({f"{LONG}/{LONG}/{LONG}/{LONG}/{LONG}/{LONG}/a.png": IMAGE}, "is too long a name"),
    "line break": ({"ig/a\nb.png": IMAGE}, "holds control characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_names_that_no_system_or_not_every_system_keeps_are_refused(tmp_path: Path, pack, case: str) -> None:
    members, message = NAMES[case]
    with pytest.raises(StudyError, match=message):
        unpacked(tmp_path, pack(members))
    assert not list((tmp_path / "target").iterdir())


def test_names_are_compared_across_inner_archives(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="which are one file on some systems"):
        unpacked(tmp_path, zipped({"ig/a.png": IMAGE, "inner.zip": zipped({"IG/a.png": IMAGE})}))


def test_a_folder_of_an_images_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"holds ig/a\.png as a file and as a folder"):
        unpacked(tmp_path, zipped({"ig/a.png": IMAGE, "ig/a.png/": b""}))


def test_what_stays_out_may_be_called_anything(tmp_path: Path) -> None:
    litter = {"ig/Icon\r": b"", "ig/" + 300 * "a": b"", "ig/readme": b"", "ig/README": b""}
    assert unpacked(tmp_path, zipped({**GOOD, **litter})) == GOOD


LIES = {
    "AES": (zip_with(zipped(GOOD), 10, "<H", 99), "'ig/a.png' is encrypted"),
    "strong encryption": (zip_with(zipped(GOOD), 8, "<H", 0x41), "'ig/a.png' is encrypted"),
    "Deflate64": (zip_with(zipped(GOOD), 10, "<H", 9), r"packed by method 9 \(Deflate64\); unpack it by hand"),
    "PPMd": (zip_with(zipped(GOOD), 10, "<H", 98), r"method 98 \(PPMd\)"),
    "BZip2": (packed_by(zipfile.ZIP_BZIP2), r"method 12 \(BZip2\)"),
    "LZMA": (packed_by(zipfile.ZIP_LZMA), r"method 14 \(LZMA\)"),
    "no such method": (zip_with(zipped(GOOD), 10, "<H", 77), r"method 77 \(unknown\)"),
    "several parts": (zip_with(zipped(GOOD), 34, "<H", 1), "one of several parts"),
    "overlap": (overlapping(), "files in it overlap"),
    "overlap with the end": (zip_with(zipped({"a.png": IMAGE}), 20, "<I", 1 << 20), "files in it overlap"),
    "larger than it is": (zip_with(zipped(GOOD), 24, "<I", len(IMAGE) + 1), "ig/a.png has another size"),
    "smaller than it is": (zip_with(zipped(GOOD), 24, "<I", 10), "damaged or incomplete"),
    "another name inside": (zip_with(zipped(GOOD), 46, "<B", ord("j")), "damaged or incomplete"),
    "before the beginning": (shifted(zipped(GOOD)), "damaged or incomplete"),
    "not UTF-8": (zipped({"ig/é.png": IMAGE}).replace("é".encode(), b"\xff\xff"), "damaged or incomplete"),
    "prepended data": (b"#!/bin/sh\n" + zipped(GOOD), "neither a zip nor a tar"),
    "empty zip": (zipped({}), "holds nothing"),
    "empty tar": (tarred({}), "holds nothing"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive, .*; unpack it by hand"),
    "rar": (b"Rar!\x1a\x07\x01\x00" + bytes(100), "a rar archive"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(100), "a zstd archive"),
    "gz, no tar": (b"\x1f\x8b\x08\x00" + bytes(100), "neither a zip nor a tar"),
    "block device": (tar_with(tarfile.BLKTYPE), "is a link or a device"),
    "pipe": (tar_with(tarfile.FIFOTYPE), "is a link or a device"),
    "unknown type": (tar_with(b"Z"), "is a link or a device"),
    "holes": (with_attributes(GNU__sparse__map="0,1", GNU__sparse__size="9"), "or has holes"),
    "nonsensical holes": (with_attributes(GNU__sparse__map="one"), "damaged or incomplete"),
    "holes without end": (extended_holes(), "damaged or incomplete"),
    "hostile path": (with_attributes(path="../evil.png"), r"'\.\./evil\.png' leads out"),
    "absolute path": (with_attributes(path="/tmp/evil.png"), "leads out"),
    "NUL in a path": (with_attributes(path="ig/evil\0.png"), "leads out"),
    "negative size": (with_attributes(size="-1536"), "a negative size"),
    "nonsensical size": (with_attributes(size="many"), "damaged or incomplete"),
    "hostile long name": (tarred({"../" * 60 + "evil.png": IMAGE}), "leads out"),
    "name of a gigabyte": (entry("@", b"", type=tarfile.GNUTYPE_LONGNAME, size=1 << 30), "neither a zip nor a tar"),
    "then one": (entry("a.png") + entry("@", b"", type=b"L", size=1 << 30), "a name of 1,073,741,824 bytes"),
    "names without end": (entry("a.png") + 2000 * entry("@", b"b.png\0", type=b"L") + END, "damaged or incomplete"),
    "damaged header": (damaged_header(), "a header is damaged"),
    "no end": (entry("ig/a.png"), "the end is missing"),
    "cut in a header": (entry("ig/a.png") + entry("ig/b.png")[:100], "the end is missing"),
    "another tar behind": (tarred(GOOD, "") * 2, "something follows its end"),
    "damaged checksum": (damaged_checksum(), "CRC check failed"),
    "not Unicode": (entry("ig/caf\udce9.png") + END, "is not Unicode"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_an_archive_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    content, message = LIES[case]
    with pytest.raises(StudyError, match=rf"set\.zip: .*{message}") as caught:
        unpacked(tmp_path / "inside", content)
    assert "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*evil*")]


def test_an_absent_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="No such file"):
        unpack(tmp_path / "absent.zip", tmp_path, ignore)


@pytest.mark.parametrize("last", [{"../evil.png": IMAGE}, {"ig/A.png": IMAGE}])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_nothing_is_written_before_all_of_it_is_checked(tmp_path: Path, pack, last: dict[str, bytes]) -> None:
    with pytest.raises(StudyError):
        unpacked(tmp_path, pack({**GOOD, **last}))
    assert not list((tmp_path / "target").iterdir())


def test_more_than_the_archive_says_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "BLOCK_BYTES", 10)
    liar = Member(PurePosixPath("a.png"), 25, 25, False, lambda: io.BytesIO(bytes(1000)))
    with (tmp_path / "a.png").open("wb") as target, pytest.raises(StudyError, match=r"a\.png has another size"):
        archive._copy(liar, target, "set.zip")
    assert (tmp_path / "a.png").stat().st_size == 30


def test_folders_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 3)
    with pytest.raises(StudyError, match="holds more than 3 files"):
        unpacked(tmp_path, zipped({**GOOD, "ig/": b"", "ig/more/": b""}))


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_are_kept_in_every_kind_of_tar(tmp_path: Path, format: int) -> None:
    name = f"{'d' * 90}/{'e' * 90}.png"
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=format) as file:
        info = tarfile.TarInfo(name)
        info.size = len(IMAGE)
        file.addfile(info, io.BytesIO(IMAGE))
    assert unpacked(tmp_path, buffer.getvalue()) == {name: IMAGE}


def test_a_zip_of_the_large_kind_is_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file, file.open("ig/a.png", "w", force_zip64=True) as member:
        member.write(IMAGE)
    assert unpacked(tmp_path, buffer.getvalue()) == {"ig/a.png": IMAGE}


def test_a_comment_at_the_end_does_no_harm(tmp_path: Path) -> None:
    with zipfile.ZipFile(buffer := io.BytesIO(zipped(GOOD)), "a") as file:
        file.comment = b"made by hand"
    assert unpacked(tmp_path, buffer.getvalue()) == GOOD
