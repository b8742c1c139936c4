"""MedMNIST files (.npz) as a folder of PNG images with a table of labels and given splits.

Such a file holds the arrays {train,val,test}_images, uint8 [N, H, W] or [N, H, W, 3], and {train,val,test}_labels,
whole numbers [N, 1]. It is a zip that nobody vouches for: what an array's header says is looked at before memory is
taken for it, and images are read one at a time, so that a set larger than memory passes.
Source: Yang et al., MedMNIST v2, Scientific Data 10 (2023) 41.
"""

import csv
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.lib import format as npy
from PIL import Image

from pipeline.data.fetching.archive_members import Member, members_of
from pipeline.data.fetching.limits import check_count, check_member, check_room, check_total, room_in
from pipeline.data.sets.own import MEDMNIST_TABLE
from pipeline.data.unreadable import UnreadableError, check_size
from pipeline.errors import StudyError

SPLITS = {"train": "train", "val": "validation", "test": "test"}
MAX_CLASSES = 1000
DAMAGE = (zipfile.BadZipFile, zlib.error, NotImplementedError, ValueError, KeyError, EOFError, OSError)

Members = Mapping[str, Member]  # by their names
Labels = Int64[np.ndarray, " n"]


def unpack_medmnist(
    file: Path, folder: Path, classes: Sequence[str], progress: Callable[[int, int], None], shown: str
) -> int:
    """Fill `folder` with <split>/<number>.png and the table; 0, as nothing is left out.

    Args:
        classes: names of the labels 0, 1, ...; empty if the numbers are to be the names.

    Raises:
        StudyError: it is no such file, is damaged or too large, has several labels per image, or more than are named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("rb") as content:
            members = {str(member.path): member for member in members_of(content, shown)}
            labels = {split: _labels(members, split, shown) for split in SPLITS}
            names = _names(labels, classes, shown)
            _check_images(members, file.stat().st_size, folder, shown)
            rows = _write_images(members, labels, names, folder, shown, progress)
    except DAMAGE as error:
        raise StudyError(f"{shown}: not a whole MedMNIST file ({error}); download it again") from None
    with (folder / MEDMNIST_TABLE).open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written, lineterminator="\n")
        writer.writerows([("file", "class", "split"), *rows])
    return 0


def _write_images(
    members: Members,
    labels: Mapping[str, Labels],
    names: Sequence[str],
    folder: Path,
    shown: str,
    progress: Callable[[int, int], None],
) -> list[tuple[str, str, str]]:
    """Of each image its file, class and split."""
    total, rows = sum(map(len, labels.values())), []
    for split, given in SPLITS.items():
        (folder / given).mkdir()
        for number, (image, label) in enumerate(zip(_images(members, split, shown), labels[split], strict=True)):
            place = f"{given}/{number:06d}.png"
            Image.fromarray(image).save(folder / place)
            rows.append((place, names[label], given))
            progress(len(rows), total)
    return rows


def _labels(members: Members, split: str, shown: str) -> Labels:
    with _opened(members, f"{split}_labels", shown) as stream:
        shape, dtype = _header(stream)
        if len(shape) == 2 and shape[1] != 1:
            raise StudyError(f"{shown}: has {shape[1]} labels per image; the study tells classes apart, one per image")
        if dtype.kind not in "iu" or len(shape) not in (1, 2):
            raise StudyError(f"{shown}: {split}_labels are {dtype} {shape}; needed is one whole number per image")
        check_count(shape[0], shown)
        labels = np.frombuffer(_exactly(stream, shape[0] * dtype.itemsize), dtype)
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= MAX_CLASSES:
        reason = f"has labels from {lowest} to {highest}, which are to number the classes from 0 to {MAX_CLASSES - 1}"
        raise StudyError(f"{shown}: {reason}; correct the file")
    return labels.astype(np.int64)


def _names(labels: Mapping[str, Labels], classes: Sequence[str], shown: str) -> list[str]:
    highest = max(int(values.max()) for values in labels.values())
    if classes and highest >= len(classes):
        raise StudyError(f"{shown}: has labels up to {highest}, but {len(classes)} classes are named in params.yaml")
    return list(classes) or [f"{label:0{len(str(highest))}d}" for label in range(highest + 1)]


def _check_images(members: Members, packed: int, folder: Path, shown: str) -> None:
    """Before the first of them is written; as PNG files they hardly take more than their pixels."""
    total = 0
    for split in SPLITS:
        with _opened(members, f"{split}_images", shown) as stream:
            shape, dtype = _header(stream)
        if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise StudyError(f"{shown}: {split}_images are {dtype} {shape}; needed are 8-bit images, grey or RGB")
        try:
            check_size(shape[2], shape[1])
        except UnreadableError as error:
            raise StudyError(f"{shown}: {split}_images: {error}; get another version of the set") from None
        check_count(shape[0], shown)
        total += _bytes_of(shape)
    check_total(total, packed, shown)
    check_room(total, room_in(folder), folder, shown)


def _images(members: Members, split: str, shown: str) -> Iterator[UInt8[np.ndarray, "h w *rgb"]]:
    with _opened(members, f"{split}_images", shown) as stream:
        shape, _ = _header(stream)
        for _ in range(shape[0]):
            yield np.frombuffer(_exactly(stream, _bytes_of(shape[1:])), dtype=np.uint8).reshape(shape[1:])


def _opened(members: Members, array: str, shown: str) -> BufferedIOBase:
    member = members[f"{array}.npy"]
    check_member(member.size, member.packed, member.path.name, shown)
    stream = member.open()
    assert isinstance(stream, BufferedIOBase)  # as zips and tars give it of a file
    return stream


def _header(stream: BufferedIOBase) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that follows."""
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("an array with a header of over 64 KiB")
    shape, fortran, dtype = npy.read_array_header_1_0(stream)
    if fortran:
        raise ValueError("an array is stored column by column")
    if min(shape, default=0) < 0:
        raise ValueError("an array of negative length")
    return shape, dtype


def _bytes_of(shape: tuple[int, ...]) -> int:
    """Of 8-bit pixels; with Python's own numbers, which do not overflow."""
    return math.prod(shape)


def _exactly(stream: BufferedIOBase, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError("an array ends too early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
