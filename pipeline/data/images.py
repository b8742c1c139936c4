"""The one decoder: the bytes of an image file to a square RGB array, alike in training and serving; masks likewise.

One rule for each oddity. The content decides what a file is, not its name. EXIF orientation is applied. Transparency
is dropped, colours stay. 16-bit grey is scaled to 8 bits by its range, which is 12 bits where no value is larger.
Images are *stretched* to the square: nothing is cut off, no border is added, and a mask takes the same path, so that
it stays on its lesion; the price is a change of aspect (PBC 360 x 363: none to speak of; BUSI about 1.2 : 1).
"""

from io import BytesIO

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
MAX_PIXELS = 50_000_000  # 150 MB as RGB; the largest real image has under a million
MIN_SIDE_PX = 16
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # grey with more than 8 bits


class UnreadableError(Exception):
    """An image file that cannot be used; the message says why, whoever knows the file's name adds it."""


def square_image(content: bytes, image_size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    """The image file `content` as the model sees it.

    Raises:
        UnreadableError: it is no image, broken, animated, too small or too large.
    """
    return to_square(decode_image(content), image_size_px)


def decode_image(content: bytes) -> Image.Image:
    """The image file `content` in RGB at its own size; raises UnreadableError."""
    return _to_rgb(_load(content))


def to_square(image: Image.Image, image_size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    """Stretched by bicubic interpolation, which Pillow widens when it shrinks, so that nothing aliases."""
    return np.asarray(image.resize((image_size_px, image_size_px), Image.Resampling.BICUBIC))


def decode_mask(content: bytes) -> Bool[np.ndarray, "h w"]:
    """Where the mask file `content` outlines something; raises UnreadableError.

    Counts from half of white on; in a mask of zeros and ones, one counts.
    """
    values = _mask_values(_load(content))
    top = int(values.max())
    if top <= 1:
        return values == 1
    return values >= (128 if top <= 255 else 32768)


def mask_to_square(mask: Bool[np.ndarray, "h w"], image_size_px: int) -> UInt8[np.ndarray, "s s"]:
    """1 where the mask covers at least half of the pixel, stretched as its image is."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return (np.asarray(grey.resize((image_size_px, image_size_px), Image.Resampling.BOX)) >= 128).astype(np.uint8)


def _load(content: bytes) -> Image.Image:
    """The decoded file, upright, in the mode it came in."""
    if not content:
        raise UnreadableError("the file is empty")
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
        _check_header(image)
        image.load()
        return ImageOps.exif_transpose(image)
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # whatever a broken file makes a decoder stumble over
        raise UnreadableError(f"broken: {error}") from None


def _check_header(image: Image.Image) -> None:
    """Refuses by what the header says, before memory is taken for pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} px are more than {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise UnreadableError(f"{width} x {height} px is too small; each side needs {MIN_SIDE_PX}")
    if (frames := getattr(image, "n_frames", 1)) > 1:
        raise UnreadableError(f"{frames} frames; save the one that counts as an image of its own")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        image = _to_8_bit(image)
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    elif image.mode == "P":
        image = image.convert("RGBA")  # so that a transparent palette keeps its colours
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableError("more than 16 bits per pixel; save it with 8 or 16")
    white = 4095 if values.max() <= 4095 else 65535
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def _mask_values(image: Image.Image) -> Integer[np.ndarray, "h w"]:
    """Grey values as stored; the brightest colour where there are several."""
    if image.mode in DEEP_MODES:
        return np.asarray(image).astype(np.int64)
    return np.asarray(_to_rgb(image)).max(axis=2)
