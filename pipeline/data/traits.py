"""Traits of an image beside its class, read off its pixels at full size, that results can be sliced by.

A trait is a function from an image to the name of a level; a set names its own in `DatasetSpec.traits`. Both traits
here are shortcuts that a model may take instead of looking at the cell or the lesion.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy.ndimage import grey_opening, uniform_filter1d

# The batches of PBC differ in the light behind the smear: (254, 229, 204) in the first, (231, 223, 232) in the second.
BRIGHTEST = 0.9  # quantile of green, which stain takes most of; from it on a pixel shows that light
WARM = 25  # half of what red exceeds blue by in the first batch; in the second it does not

CHROMA = 20  # between a pixel's channels: on grey 0, on the palest line of the real sample 33
COLOURED_PX = 10
STROKE_PX = 3
LONG_PX = 3
WIDE_PX, CONTRAST = 5, 80  # ink is narrower than this, and by this brighter than what lies left and right of it
SHRUNK_PX = 320  # the longer side of real images is 391 and more; of shrunk ones a stroke is a pixel, half filled
SHRUNK_WIDE_PX, SHRUNK_CONTRAST = 3, 45
LOGO = 0.07  # of either side: the top left corner, where images of every class show the end of the scanner's name


def acquisition_batch(image: Image.Image) -> str:
    """`first` or `second` batch of PBC, by the colour of the light behind the smear."""
    pixels = np.asarray(image).reshape(-1, 3).astype(np.int16)
    red, green, blue = pixels.T
    behind = green >= np.quantile(green, BRIGHTEST)
    return "first" if np.median(red[behind] - blue[behind]) > WARM else "second"


def burnt_in_marks(image: Image.Image) -> str:
    """`marked` if text, calipers or colour lie over the ultrasound image, else `plain`."""
    marked = _coloured_px(image) >= COLOURED_PX or _stroke_px(image) >= STROKE_PX
    return "marked" if marked else "plain"


def _coloured_px(image: Image.Image) -> int:
    red, green, blue = (np.asarray(band) for band in image.split())
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return int((spread > CHROMA).sum())


def _stroke_px(image: Image.Image) -> int:
    wide, contrast = (SHRUNK_WIDE_PX, SHRUNK_CONTRAST) if max(image.size) < SHRUNK_PX else (WIDE_PX, CONTRAST)
    strokes = _upright_strokes(np.asarray(image.convert("L")), wide, contrast)
    strokes[: round(LOGO * image.height), : round(LOGO * image.width)] = False
    return int(strokes.sum())


def _upright_strokes(grey: UInt8[np.ndarray, "h w"], wide: int, contrast: int) -> Bool[np.ndarray, "h w"]:
    """Where white ink goes up and down.

    The beam blurs an echo sideways over several pixels, so tissue is bright in long runs along a row; letters, digits
    and crosses have strokes a few pixels wide with sharp edges. What an opening along the rows takes away is too narrow
    for tissue, and the mean over a few rows leaves out single grains of speckle.
    """
    narrow = grey - grey_opening(grey, size=(1, wide))
    return uniform_filter1d(narrow, LONG_PX, axis=0) > contrast


TRAITS: dict[str, Callable[[Image.Image], str]] = {
    "acquisition_batch": acquisition_batch,
    "burnt_in_marks": burnt_in_marks,
}  # of an RGB image at full size: the level that it has
