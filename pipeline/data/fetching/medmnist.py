"""MedMNIST files (.npz) as a folder of PNG images with a table of labels and given splits.

Such a file holds the arrays {train,val,test}_images, uint8 [N, H, W] or [N, H, W, 3], and {train,val,test}_labels,
[N, 1]. Images are read one at a time from the zip that the file is, so that a set larger than memory passes.
Source: Yang et al., MedMNIST v2, Scientific Data 10 (2023) 41.
"""

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.lib import format as npy
from PIL import Image

from pipeline.data.fetching.archive import MAX_BYTES, MAX_MEMBERS
from pipeline.data.sets.own import MEDMNIST_TABLE
from pipeline.errors import StudyError

SPLITS = {"train": "train", "val": "validation", "test": "test"}
DAMAGE = (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError)


def unpack_medmnist(
    file: Path, folder: Path, classes: Sequence[str], progress: Callable[[int, int], None], shown: str
) -> int:
    """Fill `folder` with <split>/<number>.png and the table; 0, as nothing is left out.

    Args:
        classes: names of the labels 0, 1, ...; empty if the numbers are to be the names.

    Raises:
        StudyError: it is no such file, is damaged or too large, has several labels per image, or more than are named.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            labels = {split: _labels(archive, split, shown) for split in SPLITS}
            names = _names(labels, classes, shown)
            total, rows = sum(map(len, labels.values())), []
            for split, given in SPLITS.items():
                (folder / given).mkdir(parents=True)
                for number, (image, label) in enumerate(
                    zip(_images(archive, split, shown), labels[split], strict=True)
                ):
                    place = f"{given}/{number:06d}.png"
                    Image.fromarray(image).save(folder / place)
                    rows.append((place, names[label], given))
                    progress(len(rows), total)
    except DAMAGE as error:
        raise StudyError(f"{shown}: not a whole MedMNIST file ({error}); download it again") from None
    with (folder / MEDMNIST_TABLE).open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written, lineterminator="\n")
        writer.writerows([("file", "class", "split"), *rows])
    return 0


def _labels(archive: zipfile.ZipFile, split: str, shown: str) -> Int64[np.ndarray, " n"]:
    with archive.open(f"{split}_labels.npy") as stream:
        labels = npy.read_array(stream, allow_pickle=False)
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise StudyError(
            f"{shown}: has {labels.shape[1]} labels per image; the study tells classes apart, one per image"
        )
    return labels.reshape(-1).astype(np.int64)


def _names(labels: dict[str, Int64[np.ndarray, " n"]], classes: Sequence[str], shown: str) -> list[str]:
    highest = max(int(values.max()) for values in labels.values())
    if classes and highest >= len(classes):
        raise StudyError(f"{shown}: has labels up to {highest}, but {len(classes)} classes are named in params.yaml")
    return list(classes) or [f"{label:0{len(str(highest))}d}" for label in range(highest + 1)]


def _images(archive: zipfile.ZipFile, split: str, shown: str) -> Iterator[UInt8[np.ndarray, "h w *rgb"]]:
    with archive.open(f"{split}_images.npy") as stream:
        assert isinstance(stream, zipfile.ZipExtFile)  # as it is when a file is read
        shape, dtype = _header(stream)
        if dtype != np.uint8 or len(shape) not in (3, 4) or (len(shape) == 4 and shape[3] != 3):
            raise StudyError(f"{shown}: {split}_images are {dtype} {shape}; needed are 8-bit images, grey or RGB")
        size = int(np.prod(shape[1:]))
        if shape[0] > MAX_MEMBERS or shape[0] * size > MAX_BYTES:
            raise StudyError(f"{shown}: holds more than {MAX_MEMBERS:,} images or {MAX_BYTES:,} bytes")
        for _ in range(shape[0]):
            yield np.frombuffer(_exactly(stream, size), dtype=np.uint8).reshape(shape[1:])


def _header(stream: zipfile.ZipExtFile) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream)
    if fortran:
        raise ValueError("its images are stored column by column")
    return shape, dtype


def _exactly(stream: zipfile.ZipExtFile, size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError("the images end too early")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
