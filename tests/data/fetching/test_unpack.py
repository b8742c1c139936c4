"""Archives that nobody vouches for: what lands, and what is refused before anything does."""

import io
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.data.fetching import archive, limits
from pipeline.data.fetching.archive import unpack
from pipeline.errors import StudyError
from tests.data.sets import box, encoded, ignore, noise, write

IMAGE = encoded(noise(0))


def zipped(members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], kind: str = "gz") -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode=f"w:{kind}") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def unpacked(folder: Path, content: bytes, name: str = "set.zip") -> dict[str, bytes]:
    """The files that `content` unpacks to, by their names."""
    target = folder / "target"
    target.mkdir(parents=True)
    unpack(write(folder / name, content), target, ignore)
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


HARD_NAMES = [
    "name with  spaces (1).png",
    "célula_細胞_ß😀.png",
    "cafe\u0301_nfd.png",
    "-rf.png",
    "quote'\",semi;colon.png",
]


@pytest.mark.parametrize("pack", [zipped, tarred, lambda members: tarred(members, "")])
def test_images_land_under_their_own_names(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    members = {f"top/top/ig/{name}": IMAGE for name in HARD_NAMES}
    assert unpacked(tmp_path, pack(members)) == members


def test_litter_stays_out_and_is_counted(tmp_path: Path) -> None:
    litter = ["__MACOSX/ig/._a.png", "ig/.DS_1.jpg", "ig/._a.zip", "ig/Thumbs.db", "ig/test.txt", ".hidden/ig/a.png"]
    file = write(tmp_path / "set.zip", zipped({"ig/a.png": IMAGE, **dict.fromkeys(litter, b"x")}))
    assert unpack(file, tmp_path / "target", ignore) == len(litter)
    assert [path.name for path in (tmp_path / "target").rglob("*.*")] == ["a.png"]


def test_an_archive_in_an_archive_is_unpacked_where_it_lies(tmp_path: Path) -> None:
    outer = zipped({"top/inner.zip": zipped({"ig/a.png": IMAGE}), "top/more.tar.gz": tarred({"ig/b.png": IMAGE})})
    assert unpacked(tmp_path, outer) == {"top/ig/a.png": IMAGE, "top/ig/b.png": IMAGE}


def test_further_files_are_kept_by_their_names_in_any_case(tmp_path: Path) -> None:
    tables = {"Labels.CSV": b"1", "ig/more.csv": b"2", ".labels.csv": b"3", "old/labels.csv.bak": b"4"}
    inner = zipped({"labels.csv": b"5", "ig/a.png": IMAGE})
    file = write(tmp_path / "set.zip", zipped({**tables, "inner/inner.zip": inner}))
    (tmp_path / "target").mkdir()
    assert unpack(file, tmp_path / "target", ignore, frozenset({"labels.csv"})) == 3
    landed = {path.relative_to(tmp_path / "target").as_posix() for path in (tmp_path / "target").rglob("*.*")}
    assert landed == {"Labels.CSV", "inner/labels.csv", "inner/ig/a.png"}


def test_a_backslash_separates_folders(tmp_path: Path) -> None:
    assert unpacked(tmp_path, zipped({"top\\ig\\a.png": IMAGE})) == {"top/ig/a.png": IMAGE}


def test_progress_counts_the_files(tmp_path: Path) -> None:
    seen = []
    file = write(tmp_path / "set.zip", zipped({f"ig/{number}.png": IMAGE for number in range(3)}))
    unpack(file, tmp_path / "target", lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def with_link() -> bytes:
    info = zipfile.ZipInfo("ig/link.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file:
        file.writestr("ig/a.png", IMAGE)
        file.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def tar_with(kind: bytes) -> bytes:
    info = tarfile.TarInfo("ig/link.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as file:
        file.addfile(info)
    return buffer.getvalue()


def with_double_name() -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as file, warnings.catch_warnings(action="ignore"):
        file.writestr("ig/a.png", IMAGE)
        file.writestr("ig/a.png", IMAGE + b"!")
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(zipped({"ig/a.png": IMAGE}))
    place = content.index(b"PK\x01\x02") + 8  # flags in the central directory
    struct.pack_into("<H", content, place, 1)
    return bytes(content)


def nested(depth: int) -> bytes:
    content = zipped({"ig/a.png": IMAGE})
    for _ in range(depth):
        content = zipped({"inner.zip": content})
    return content


REFUSED = {
    "parent": (zipped({"ig/a.png": IMAGE, "../evil.txt": b"evil"}), r"'\.\./evil\.txt' leads out of the folder"),
    "deep parent": (zipped({"ig/../../evil.png": IMAGE}), "leads out of the folder"),
    "absolute": (zipped({"/tmp/evil.txt": b"evil"}), "leads out of the folder"),
    "drive": (zipped({"C:\\evil.txt": b"evil"}), "leads out of the folder"),
    "backslashes": (zipped({"..\\evil.txt": b"evil"}), "leads out of the folder"),
    "folder": (zipped({"../evil/": b""}), "leads out of the folder"),
    "tar parent": (tarred({"../evil.png": IMAGE}), "leads out of the folder"),
    "inner parent": (
        zipped({"top/inner.zip": zipped({"../../evil.png": IMAGE})}),
        "inner.zip.*leads out of the folder",
    ),
    "link": (with_link(), "'ig/link.png' is a link"),
    "tar symlink": (tar_with(tarfile.SYMTYPE), "is a link"),
    "tar hard link": (tar_with(tarfile.LNKTYPE), "is a link"),
    "tar device": (tar_with(tarfile.CHRTYPE), "is a link or a device"),
    "double name": (with_double_name(), "holds ig/a.png twice"),
    "double across": (zipped({"ig/a.png": IMAGE, "inner.zip": zipped({"ig/a.png": IMAGE})}), "holds ig/a.png twice"),
    "encrypted": (encrypted(), "'ig/a.png' is encrypted"),
    "bomb": (
        zipped({"ig/a.png": bytes(30_000_000)}),
        "'ig/a.png' unpacks to 30,000,000 bytes, over 200 times its size.*unpack it by hand",
    ),
    "tar bomb": (
        tarred({"ig/a.png": bytes(30_000_000)}),
        "'ig/a.png' unpacks to 30,000,000 bytes, over 200 times its size.*unpack it by hand",
    ),
    "inner bomb": (
        zipped({"inner.zip": zipped({"ig/a.png": bytes(30_000_000)})}),
        "'ig/a.png' unpacks to 30,000,000 bytes, over 200 times its size.*unpack it by hand",
    ),
    "three deep": (nested(2), "nested too deep"),
    "web page": (b"\n<!DOCTYPE html><html><title>403 Forbidden</title></html>", "a web page, not an archive"),
    "truncated": (zipped({"ig/a.png": IMAGE})[:-30], "damaged or incomplete"),
    "truncated tar": (tarred({"ig/a.png": IMAGE})[:-600], "damaged or incomplete"),
    "damaged": (zipped({"ig/a.png": IMAGE}).replace(IMAGE[400:410], b"0123456789"), "damaged or incomplete"),
    "no archive": (IMAGE, "neither a zip nor a tar"),
    "empty": (b"", "neither a zip nor a tar"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_or_broken_archive_is_refused(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    with pytest.raises(StudyError, match=rf"set\.zip: .*{message}"):
        unpacked(tmp_path / "inside", content)
    assert not [path for path in tmp_path.rglob("*evil*")]


def test_masks_that_shrink_as_bombs_do_are_unpacked(tmp_path: Path) -> None:
    masks = {f"masks/{number}.bmp": encoded(box(2048, 2048), "BMP") for number in range(4)}
    assert len(zipped(masks)) < sum(map(len, masks.values())) / 200
    for pack in (zipped, tarred):
        assert unpacked(tmp_path / pack.__name__, pack(masks)) == masks


def test_what_is_no_image_may_swell_as_it_stays_in_the_zip(tmp_path: Path) -> None:
    assert unpacked(tmp_path, zipped({"ig/a.png": IMAGE, "ig/a.nii": bytes(30_000_000)})) == {"ig/a.png": IMAGE}


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_many_small_bombs_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 9_000_000)
    bombs = {f"ig/{number}.png": bytes(1_000_000) for number in range(10)}
    with pytest.raises(StudyError, match=r"over 9,000,000 bytes and over 200 times its size.*unpack it by hand"):
        unpacked(tmp_path, pack(bombs))
    assert not list((tmp_path / "target").iterdir())


def test_bombs_in_several_inner_archives_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FREE_BYTES", 9_000_000)
    inner = {f"{number}.zip": zipped({f"ig/{number}.png": bytes(3_000_000)}) for number in range(4)}
    with pytest.raises(StudyError, match=r"set\.zip: [0-3]\.zip: unpacks to over 9,000,000 bytes"):
        unpacked(tmp_path, zipped(inner))


def test_more_files_than_any_set_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_MEMBERS", 1)
    with pytest.raises(StudyError, match=r"holds more than 1 files.*unpack it by hand and give the folder's path"):
        unpacked(tmp_path, zipped({"ig/a.png": IMAGE, "ig/b.png": IMAGE}))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_what_the_disk_cannot_hold_is_refused_before_any_of_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack
) -> None:
    monkeypatch.setattr(limits, "RESERVE_BYTES", 1 << 60)
    place = re.escape(str(tmp_path / "target"))
    with pytest.raises(
        StudyError, match=f"take {2 * len(IMAGE):,} bytes, but only 0 are to spare in {place}; free some"
    ):
        unpacked(tmp_path, pack({"ig/a.png": IMAGE, "ig/b.png": IMAGE, "ig/readme.txt": IMAGE}))
    assert not list((tmp_path / "target").iterdir())


def test_inner_archives_take_room_with_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = zipped({"ig/a.png": IMAGE})
    monkeypatch.setattr(archive, "room_in", lambda folder: len(inner) + len(IMAGE) - 1)
    with pytest.raises(StudyError, match=rf"inner\.zip: its images take {len(inner) + len(IMAGE):,} bytes"):
        unpacked(tmp_path, zipped({"inner.zip": inner}))
