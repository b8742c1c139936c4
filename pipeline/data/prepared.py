"""The prepared set as later stages read it: arrays that stay on disk, index, traits, and what decides learning."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.records import PreparedSet

COLUMNS = {
    "row": "int64", "file": "str", "class": "str", "label": "int64", "split": "str", "group": "int64", "sha256": "str",
    "has_mask": "bool",
}  # fmt: skip
TRAIT_COLUMNS = defaultdict(lambda: "str", row="int64")  # whatever a set calls its traits


@dataclass(frozen=True)
class Prepared:
    images: UInt8[np.ndarray, "n s s 3"]  # memory-mapped
    masks: UInt8[np.ndarray, "n s s"] | None  # 0 or 1; blank rows where the index says has_mask is False
    index: pd.DataFrame
    about: PreparedSet
    traits: pd.DataFrame  # by row: a column of levels for each trait, none where the set has no traits

    def rows(self, split: str) -> Int64[np.ndarray, " m"]:
        """Positions in `images` of one split, rising."""
        return self.index.loc[self.index["split"] == split, "row"].to_numpy(dtype=np.int64)

    def pixels(self, rows: Int64[np.ndarray, " m"]) -> UInt8[np.ndarray, "m s s 3"]:
        """The images in these rows, read from the file: where a memory map meets a cut file or a failing disk, the
        system ends the process without a word.

        Raises:
            StudyError: one of them cannot be read; it is named.
        """
        out = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        with self._path.open("rb", buffering=0) as file:
            for picture, row in zip(out, rows.tolist(), strict=True):
                self._read(file, picture, row)
        return out

    def _read(self, file: FileIO, picture: UInt8[np.ndarray, "s s 3"], row: int) -> None:
        try:
            file.seek(self._map.offset + row * picture.nbytes)
            if file.readinto(picture.data) != picture.nbytes:
                raise OSError("the file ends before it")
        except OSError as error:
            reason = f"row {row} ({self.index['file'].iloc[row]}) cannot be read: {error}"
            raise _inconsistent(self._path, self.about, reason) from None

    def __reduce__(self) -> tuple[Callable[[Path], "Prepared"], tuple[Path]]:
        """Another process opens the files anew: pickling a memory map would copy all of its pixels."""
        return load_prepared, (self._path.parent,)

    @property
    def _map(self) -> np.memmap:
        assert isinstance(self.images, np.memmap)
        return self.images

    @property
    def _path(self) -> Path:
        return Path(str(self._map.filename))


def load_prepared(folder: Path) -> Prepared:
    """The set in `folder`; pixels are read when they are used.

    Raises:
        StudyError: a file is absent or damaged, or they do not belong together.
    """
    about = PreparedSet.read(folder)
    try:
        index = pd.read_csv(folder / "index.csv", dtype=COLUMNS, keep_default_na=False)
        traits = read_traits(folder)
        images = np.load(folder / "images.npy", mmap_mode="r")
        masks = np.load(folder / "masks.npy", mmap_mode="r") if about.masks else None
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename}: no such file; run `dvc repro preprocess@{about.dataset}`") from None
    except (ValueError, OSError) as error:
        raise _inconsistent(folder, about, str(error)) from None
    square = (about.images, about.image_size_px, about.image_size_px)
    if list(index.columns) != list(COLUMNS) or len(index) != about.images:
        raise _inconsistent(folder, about, "index.csv does not list the images of set.json")
    if list(traits.index) != list(index["row"]):
        raise _inconsistent(folder, about, "traits.csv does not list the rows of index.csv")
    if images.shape != (*square, 3) or (masks is not None and masks.shape != square):
        raise _inconsistent(folder, about, "the arrays do not hold the images of set.json")
    return Prepared(images, masks, index, about, traits)


def read_traits(folder: Path) -> pd.DataFrame:
    """A level of each trait for each row of the set; raises ValueError where rows are not numbered."""
    traits = pd.read_csv(folder / "traits.csv", dtype=TRAIT_COLUMNS, keep_default_na=False)
    if "row" not in traits:
        raise ValueError("traits.csv has no column row")
    return traits.set_index("row")


def to_tensor(images: UInt8[np.ndarray, "n s s 3"]) -> Float[Tensor, "n 3 s s"]:
    """The images in [0, 1] float32, channels first."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32)).div_(255)


def _inconsistent(folder: Path, about: PreparedSet, reason: str) -> StudyError:
    return StudyError(f"{folder}: {reason}; run `dvc repro -f preprocess@{about.dataset}`")
