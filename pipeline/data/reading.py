"""Read one image and its masks: squares go straight to arrays on disk, and only what was learned comes back.

So any number of processes can work at once, none of them sends pixels to another, and memory holds one image each.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image

from pipeline.data.duplicates import perceptual_hash
from pipeline.data.images import UnreadableError, decode_image, decode_mask, mask_to_square, to_square
from pipeline.data.index import ImageFile
from pipeline.data.spec import Trait
from pipeline.records import Dropped


@dataclass(frozen=True)
class Arrays:
    """Where the files are, and the arrays of squares that they fill."""

    raw: Path
    images: Path
    masks: Path
    image_size_px: int


@dataclass(frozen=True)
class Reading:
    """What one image file turned out to be."""

    sha256: str = ""
    problem: str = ""  # why it cannot be used; empty if it can
    pixels_sha256: str = ""  # of the decoded pixels: equal for copies, also those saved anew
    perceptual_hash: int = 0
    refused_masks: tuple[Dropped, ...] = ()
    mask_fraction: float | None = None  # of the image that its masks cover; None without masks that can be used
    mask_vanished: bool = False  # not empty, but too small for the square
    traits: dict[str, str] = field(default_factory=dict)  # trait -> level


def read_image(arrays: Arrays, traits: Mapping[str, Trait], place: tuple[int, ImageFile]) -> Reading:
    """Fills row `place[0]` of the arrays from the image file `place[1]` and its masks, if they can be used."""
    row, file = place
    try:
        content = (arrays.raw / file.file).read_bytes()
        image = decode_image(content)
    except (UnreadableError, OSError) as error:
        return Reading(problem=str(error))
    np.load(arrays.images, mmap_mode="r+")[row] = to_square(image, arrays.image_size_px)
    mask, refused = read_mask(arrays.raw, file, image.size)
    fraction, vanished = None, False
    if mask is not None:
        square = mask_to_square(mask, arrays.image_size_px)
        np.load(arrays.masks, mmap_mode="r+")[row] = square
        fraction, vanished = float(mask.mean()), bool(mask.any() and not square.any())
    return Reading(
        hashlib.sha256(content).hexdigest(),
        "",
        _pixels_sha256(image),
        perceptual_hash(image),
        refused,
        fraction,
        vanished,
        {name: level_of(image) for name, level_of in traits.items()},
    )


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
