"""Read one image and its masks: squares go straight to arrays on disk, and only what was learned comes back.

So any number of processes can work at once, none of them sends pixels to another, and memory holds one image each.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from pipeline.data.images import UnreadableError, decode_image, decode_mask, header_of, mask_to_square, to_square
from pipeline.data.index import ImageFile
from pipeline.data.preparing.duplicates import perceptual_hash
from pipeline.data.preparing.overlaps import NO_FEATURES, LocalFeatures, local_features
from pipeline.data.traits import TRAITS
from pipeline.records import Dropped


@dataclass(frozen=True)
class Plan:
    """Where the files are, the arrays of squares that they fill, and what is wanted of each image."""

    raw: Path
    images: Path
    masks: Path
    image_size_px: int
    traits: tuple[str, ...]
    features: bool  # whether overlaps are sought


@dataclass(frozen=True)
class Reading:
    """What one image file turned out to be."""

    problem: str = ""  # why it cannot be used; empty if it can
    size_bytes: int = 0
    sha256: str = ""
    format: str = ""  # of the file, by its content
    mode: str = ""  # Pillow's: L, RGB, I;16 ...
    width_px: int = 0  # upright
    height_px: int = 0
    pixels_sha256: str = ""  # of the decoded pixels: equal for copies, also those saved anew
    perceptual_hash: int = 0
    features: LocalFeatures = NO_FEATURES
    refused_masks: tuple[Dropped, ...] = ()
    mask_fraction: float | None = None  # of the image that its masks cover; None without masks that can be used
    mask_vanished: bool = False  # not empty, but too small for the square
    traits: dict[str, str] = field(default_factory=dict)  # trait -> level


@dataclass(frozen=True)
class Found:
    """An image file and what reading it gave."""

    image: ImageFile
    reading: Reading


def labels_of(found: Iterable[Found]) -> set[str]:
    return {one.image.class_name for one in found}


def files_of(found: Iterable[Found]) -> tuple[str, ...]:
    return tuple(one.image.file for one in found)


def read_image(plan: Plan, place: tuple[int, ImageFile]) -> Reading:
    """Fills row `place[0]` of the arrays from the image file `place[1]` and its masks, if they can be used."""
    row, file = place
    try:
        content = (plan.raw / file.file).read_bytes()
        image = decode_image(content)
    except (UnreadableError, OSError) as error:
        return Reading(problem=str(error))
    kind, mode = header_of(content)
    np.load(plan.images, mmap_mode="r+")[row] = to_square(image, plan.image_size_px)
    mask, refused = read_mask(plan.raw, file, image.size)
    fraction, vanished = (None, False) if mask is None else _fill_mask(plan, row, mask)
    return Reading(
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        format=kind,
        mode=mode,
        width_px=image.width,
        height_px=image.height,
        pixels_sha256=_pixels_sha256(image),
        perceptual_hash=perceptual_hash(image),
        features=local_features(image) if plan.features else NO_FEATURES,
        refused_masks=refused,
        mask_fraction=fraction,
        mask_vanished=vanished,
        traits={name: TRAITS[name](image) for name in plan.traits},
    )


def _fill_mask(plan: Plan, row: int, mask: Bool[np.ndarray, "h w"]) -> tuple[float, bool]:
    """The share of the image that the mask covers, and whether it is too small for the square."""
    square = mask_to_square(mask, plan.image_size_px)
    np.load(plan.masks, mmap_mode="r+")[row] = square
    return float(mask.mean()), bool(mask.any() and not square.any())


def read_mask(
    raw: Path, file: ImageFile, size: tuple[int, int]
) -> tuple[Bool[np.ndarray, "h w"] | None, tuple[Dropped, ...]]:
    """What the image's masks cover together, and the masks that were refused.

    One refused mask makes the image one without masks: what is left would call a lesion background.
    """
    mask, refused = np.zeros(size[::-1], dtype=bool), []
    for name in file.masks:
        try:
            mask |= _fitting(decode_mask((raw / name).read_bytes()), size)
        except (UnreadableError, OSError) as error:
            refused.append(Dropped(file=name, reason=f"mask refused, its image counts as having none: {error}"))
    return (None if refused or not file.masks else mask), tuple(refused)


def _fitting(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    width, height = size
    if mask.shape != (height, width):
        found = f"{mask.shape[1]} x {mask.shape[0]} px"
        raise UnreadableError(f"it is {found}, its image {width} x {height} px; cut it to its image or remove it")
    return mask


def _pixels_sha256(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.size} ".encode() + image.tobytes()).hexdigest()
