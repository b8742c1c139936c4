"""Rings and discs: a set of a user's own that no code names, with masks, patients in a table, and several formats."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from tests.data.sets import encoded, write

PATIENTS, SIDE = 12, 48
ENTRY = {
    "kind": "folder",
    "source": "../scans",
    "title": "Rings and discs",
    "classes": ["ring", "disc"],
    "masks": "outlines",
    "table": "patients.csv",
    "groups": "patient_id",
    "duplicate_distance": 0,
    "flips": ["horizontal", "vertical"],
    "evidence": "shape",
    "citation": "Nobody, Rings and discs (2026)",
}
FORMATS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"} | ({"dcm": "DICOM"} if find_spec("pydicom") else {})
DEEP = "photos/ring/0.png"  # has 16 bits


@dataclass(frozen=True)
class Drawing:
    """An image of the set before it becomes a file."""

    file: str
    class_name: str
    patient: str
    pixels: np.ndarray
    shape: np.ndarray  # where the ring or disc is


def drawings() -> Iterator[Drawing]:
    """Four images of each patient, two of each class; a pair of both classes in one format, then in the next."""
    rng, endings = np.random.default_rng(0), list(FORMATS)
    for number in range(4 * PATIENTS):
        class_name, ending = ("ring", "disc")[number % 2], endings[number // 2 % len(endings)]
        file = f"photos/{class_name}/{number}.{ending}"
        yield Drawing(file, class_name, f"Patient-{number // 4}", *draw(class_name, rng))


def draw(class_name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright ring or disc on noise, and where it is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(*(np.stack([y, x]) - rng.integers(16, 32, 2)[:, None, None]))
    shape = (distance < 11) & ((distance > 6) | (class_name == "disc"))
    return (rng.integers(0, 90, (SIDE, SIDE)) + 150 * shape).astype(np.uint8), shape


def make_scans(folder: Path) -> Path:
    rows = []
    for one in drawings():
        write(folder / one.file, content_of(one))
        write(folder / mask_of(one.file), encoded(one.shape.astype(np.uint8) * 255))
        rows.append({"file": one.file, "patient_id": one.patient})
    pd.DataFrame(rows).to_csv(folder / "patients.csv", index=False)
    return folder


def content_of(one: Drawing) -> bytes:
    """The file; a DICOM file names its patient too."""
    ending = one.file.rpartition(".")[2]
    if ending == "dcm":
        from tests.data.dicoms import dicom

        return dicom(one.pixels, PatientID=one.patient)
    return encoded(one.pixels.astype(np.uint16) * 257 if one.file == DEEP else one.pixels, FORMATS[ending])


def mask_of(file: str) -> str:
    return str(Path(file.replace("photos", "outlines")).with_suffix(".png"))
