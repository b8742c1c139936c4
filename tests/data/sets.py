"""Small image sets made up on the spot."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data import spec_of
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.data.sets.busi import BUSI
from pipeline.params import DatasetParams, PreprocessParams
from pipeline.records import Audit
from pipeline.spec import DatasetSpec, Layout

SIDE = 32
PLAIN = Layout()  # class folders, and no more
PARAMS = PreprocessParams(image_size_px=16, validation_fraction=0.25, test_fraction=0.25, max_unreadable_fraction=0.0)


def ignore(done: int, total: int) -> None:
    """Watches no progress."""


def noise(seed: int, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """An image that resembles no other seed's."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer := BytesIO(), kind, **options)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def box(height: int = SIDE, width: int = SIDE, part: float = 0.25) -> np.ndarray:
    """A mask whose left part is white."""
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : round(part * width)] = 255
    return mask


def make_busi(folder: Path, images_per_class: int = 4) -> Path:
    """Noise with a mask beside each image, empty ones in `normal`; `top` is the folder of the classes."""
    top = folder / "top"
    for label, name in enumerate(BUSI.classes):
        for number in range(images_per_class):
            write(top / name / f"{name} ({number}).png", encoded(noise(100 * label + number)))
            mask = box(part=0 if name == "normal" else 0.25)
            write(top / name / f"{name} ({number})_mask.png", encoded(mask))
    return top


def make_classes(folder: Path, spec: DatasetSpec, images_per_class: int = 1) -> Path:
    for label, name in enumerate(spec.classes):
        for number in range(images_per_class):
            write(folder / name / f"{name}_{number}.png", encoded(noise(100 * label + number)))
    return folder


def own_spec(classes: tuple[str, ...] = (), layout: Layout = PLAIN) -> DatasetSpec:
    """A user's own set that says no more of itself than where things lie."""
    params = DatasetParams(source="here", kind="folder", duplicate_distance=4, classes=classes)
    return replace(spec_of("mine", params), layout=layout)


def prepare(
    raw: Path,
    prepared: Path,
    params: PreprocessParams = PARAMS,
    spec: DatasetSpec = BUSI,
    distance: int = 4,
    processes: int = 1,
    progress: Callable[[int, int], None] = ignore,
) -> Audit:
    set_params = DatasetParams(source="here", duplicate_distance=distance)
    return prepare_dataset(spec, set_params, params, 0, raw, prepared, processes, progress)


def reasons(audit: Audit) -> dict[str, str]:
    """File name, without folders, of each file dropped or flagged -> why."""
    entries: Iterable = (*audit.dropped, *audit.flagged)
    return {Path(entry.file).name: entry.reason for entry in entries}
