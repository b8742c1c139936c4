"""Archives made up or damaged at random: each is refused in one line, or leaves plain files below its folder only."""

import io
import stat
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.fetching.archive import unpack
from pipeline.data.fetching.limits import FREE_BYTES, MAX_RATIO
from pipeline.errors import StudyError
from tests.data.fetching.test_unpack import tarred, zipped
from tests.data.sets import ignore

pytestmark = pytest.mark.slow

OUTSIDE = Path(gettempdir()).resolve() / "no_archive_may_write_here"
DEEP = "1/2/3/4/5/6"  # so that no generated name leads out of all that is looked at
KEPT = frozenset({"labels.csv"})


def steady(examples: int) -> settings:
    """The same examples in each run."""
    return settings(derandomize=True, max_examples=examples, deadline=None)


def unpacked(content: bytes) -> dict[str, bytes] | None:
    """The files that it unpacks to; None if it is refused."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / DEEP).mkdir(parents=True)
        (folder / "archive").write_bytes(content)
        refusal = refused(folder / "archive", folder / DEEP)
        files = landed(folder)
    assert files.pop("archive") == content
    assert "\n" not in refusal
    assert not OUTSIDE.exists()
    assert all(path.startswith(f"{DEEP}/") for path in files)
    assert sum(map(len, files.values())) <= max(MAX_RATIO * len(content), FREE_BYTES)
    return None if refusal else {path.removeprefix(f"{DEEP}/"): content for path, content in files.items()}


def refused(archive: Path, folder: Path) -> str:
    try:
        unpack(archive, folder, ignore, KEPT)
    except StudyError as error:
        return str(error)
    return ""


def landed(folder: Path) -> dict[str, bytes]:
    """What lies below the folder, all of it plain files and folders."""
    paths = list(folder.rglob("*"))
    assert all(stat.S_ISREG(path.lstat().st_mode) or stat.S_ISDIR(path.lstat().st_mode) for path in paths)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


# Names

PARTS = st.one_of(
    st.sampled_from(
        ["..", ".", "", "a", "A", "b.png", "B.PNG", "labels.csv", "é.png", "e\u0301.png", "C:", "c.zip", "~"]
    ),
    st.text(max_size=6),
    st.integers(200, 300).map(lambda length: length * "n" + ".png"),
)
NAMES = st.builds(
    lambda start, parts, glue, end: start + glue.join(parts) + end,
    st.sampled_from(["", "", "/", "\\", "//", "C:\\", "\0", f"{OUTSIDE}/"]),
    st.lists(PARTS, min_size=1, max_size=5),
    st.sampled_from(["/", "/", "\\", "//"]),
    st.sampled_from(["", ".png", ".png", "/", "\0.png", " ", ".", "\n.png"]),
)
MEMBERS = st.lists(st.tuples(NAMES, st.binary(max_size=40)), max_size=6)


def zip_of(members: list[tuple[str, bytes]]) -> bytes:
    """With the names as they are; zipfile mends those that are given to it in the usual way."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        for name, content in members:
            info = zipfile.ZipInfo("x")
            info.filename = name
            file.writestr(info, content)
    return buffer.getvalue()


def tar_of(members: list[tuple[str, bytes]], kinds: list[bytes], format: int) -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w", format=format, errors="surrogateescape") as file:
        for (name, content), kind in zip(members, kinds, strict=False):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


KINDS = st.lists(
    st.sampled_from(8 * [tarfile.REGTYPE] + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]),
    min_size=6,
    max_size=6,
)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@steady(300)
@given(MEMBERS)
def test_a_zip_of_any_names_stays_in_its_folder(members: list[tuple[str, bytes]]) -> None:
    files = unpacked(zip_of(members))
    assert files is None or set(files.values()) <= {content for _, content in members}


@steady(300)
@given(MEMBERS, KINDS, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
def test_a_tar_of_any_names_and_kinds_stays_in_its_folder(
    members: list[tuple[str, bytes]], kinds: list[bytes], format: int
) -> None:
    files = unpacked(tar_of(members, kinds, format))
    assert files is None or set(files.values()) <= {content for _, content in members}


@steady(100)
@given(st.lists(st.from_regex(r"[a-c]{1,2}(/[a-c]{1,2}){0,2}\.png", fullmatch=True), unique=True, max_size=6))
def test_good_names_land_in_full(names: list[str]) -> None:
    members = {name: name.encode() for name in names}
    for content in (zipped(members), tarred(members)):
        assert unpacked(content) == (members or None)


# Damage

IMAGES = {f"ig/{name}.png": bytes(range(256)) + name.encode() for name in ("a", "bé", 120 * "c")}
INNER = {f"inner/{name}": content for name, content in IMAGES.items()}
AGAIN = {f"n/{name}": content for name, content in INNER.items()}
GOOD = {
    "zip": zipped({**IMAGES, "n/inner.zip": zipped(INNER)}),
    "tar": tarred({**IMAGES, "n/inner.tar": tarred(INNER, "")}, ""),
    "tar.gz": tarred(IMAGES),
    "tar.bz2": tarred(IMAGES, "bz2"),
    "tar.xz": tarred(IMAGES, "xz"),
}
WHOLE = {"zip": IMAGES | AGAIN, "tar": IMAGES | AGAIN, "tar.gz": IMAGES, "tar.bz2": IMAGES, "tar.xz": IMAGES}
PLACES = st.floats(0, 1, exclude_max=True)  # as shares of the length
EDITS = st.lists(st.tuples(PLACES, st.sampled_from(["set", "delete", "repeat"]), st.binary(min_size=1, max_size=12)))


def edited(content: bytes, edits: list[tuple[float, str, bytes]]) -> bytes:
    for place, kind, value in edits:
        at = int(place * len(content))
        if kind == "set":
            content = content[:at] + value + content[at + len(value) :]
        elif kind == "delete":
            content = content[:at] + content[at + 40 * len(value) :]
        else:
            content = content[:at] + content[at : at + 512] + content[at:]
    return content


def with_true_checksums(tar: bytes) -> bytes:
    """So that a damaged header is believed."""
    blocks = [bytearray(tar[at : at + 512]) for at in range(0, len(tar), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


def test_what_is_damaged_below_was_good() -> None:
    assert {kind: unpacked(content) for kind, content in GOOD.items()} == WHOLE


@pytest.mark.parametrize("kind", GOOD)
@steady(120)
@given(EDITS)
def test_a_damaged_archive_does_no_harm(kind: str, edits: list[tuple[float, str, bytes]]) -> None:
    unpacked(edited(GOOD[kind], edits))


@steady(200)
@given(EDITS)
def test_a_tar_with_damaged_headers_does_no_harm(edits: list[tuple[float, str, bytes]]) -> None:
    unpacked(with_true_checksums(edited(GOOD["tar"], edits)))


@pytest.mark.parametrize("kind", GOOD)
@steady(60)
@given(PLACES)
def test_a_cut_archive_is_refused_or_whole(kind: str, place: float) -> None:
    files = unpacked(GOOD[kind][: int(place * len(GOOD[kind]))])
    assert files is None or files == WHOLE[kind]


@pytest.mark.parametrize("kind", ["tar.gz", "tar.bz2", "tar.xz"])
@steady(100)
@given(PLACES, st.integers(0, 7))
def test_a_flipped_bit_in_a_compressed_tar_is_noticed(kind: str, place: float, bit: int) -> None:
    content = bytearray(GOOD[kind])
    content[int(place * len(content))] ^= 1 << bit
    files = unpacked(bytes(content))
    assert files in (None, IMAGES)


STARTS = st.sampled_from(
    [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b\x08\x00", b"BZh9", b"\xfd7zXZ\x00", b"7z\xbc\xaf\x27\x1c"]
)


@steady(150)
@given(STARTS, st.binary(max_size=600))
def test_random_bytes_are_refused(start: bytes, rest: bytes) -> None:
    files = unpacked(start + rest)
    assert files is None
