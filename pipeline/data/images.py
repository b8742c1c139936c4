"""The one decoder: the bytes of an image file to a square RGB array, alike in training and serving; masks likewise.

One rule for each oddity. The content decides what a file is, not its name. EXIF orientation is applied. Transparency
is dropped, colours stay. 16-bit grey is scaled to 8 bits by its range, which is 12 bits where no value is larger.
Images are *stretched* to the square: nothing is cut off, no border is added, and a mask takes the same path, so that
it stays on its lesion; the price is a change of aspect (PBC 360 x 363: none to speak of; BUSI about 1.2 : 1).
DICOM has rules of its own, see `dicom`.
"""

from io import BytesIO
from types import ModuleType

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.names import is_dicom
from pipeline.data.unreadable import MAX_PIXELS, UnreadableError, check_frames, check_size

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
WHITE_12_BITS, WHITE_16_BITS = 4095, 65535
HIGHEST_LABEL = 31  # of a mask; soft edges and specks may stay below an eighth of white, what they belong to does not
MOST_LABELS = 8  # with the ground; soft edges have more values
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")  # grey with more than 8 bits


def square_image(content: bytes, image_size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    """The image file `content` as the model sees it.

    Raises:
        UnreadableError: it is no image, broken, animated, too small or too large.
    """
    return to_square(decode_image(content), image_size_px)


def decode_image(content: bytes) -> Image.Image:
    """The image file `content` in RGB at its own size; raises UnreadableError."""
    return _dicom().read_image(content) if is_dicom(content) else _to_rgb(_load(content))


def header_of(content: bytes) -> tuple[str, str]:
    """Format (JPEG, PNG ...) and kind of pixels (Pillow's mode: L, RGB, I;16 ...) of a file that can be decoded."""
    if is_dicom(content):
        return "DICOM", _dicom().read_kind(content)
    image = Image.open(BytesIO(content), formats=FORMATS)
    return str(image.format), image.mode


def to_square(image: Image.Image, image_size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    """Stretched by bicubic interpolation, which Pillow widens when it shrinks, so that nothing aliases."""
    return np.asarray(image.resize((image_size_px, image_size_px), Image.Resampling.BICUBIC))


def decode_mask(content: bytes) -> Bool[np.ndarray, "h w"]:
    """Where the mask file `content` outlines something; raises UnreadableError.

    A few small values on a ground of 0 are labels, and each of them counts. Otherwise what is at least half of white
    counts, so that soft edges do not widen a mask; white is that of 1, 8 or 12 bits if no value is larger, else of 16.
    """
    values = _dicom().read_mask_values(content) if is_dicom(content) else _mask_values(_load(content))
    if _are_labels(values):
        return values > 0
    white = next((white for white in (1, 255, WHITE_12_BITS) if values.max() <= white), WHITE_16_BITS)
    return values >= (white + 1) // 2


def _are_labels(values: Integer[np.ndarray, "h w"]) -> bool:
    return bool(values.min() == 0 and values.max() <= HIGHEST_LABEL and len(np.unique(values)) <= MOST_LABELS)


def mask_to_square(mask: Bool[np.ndarray, "h w"], image_size_px: int) -> UInt8[np.ndarray, "s s"]:
    """1 where the mask covers at least half of the pixel, stretched as its image is."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return (np.asarray(grey.resize((image_size_px, image_size_px), Image.Resampling.BOX)) >= 128).astype(np.uint8)


def _dicom() -> ModuleType:
    """Imported only when such a file turns up, as few machines need pydicom."""
    try:
        from pipeline.data import dicom
    except ModuleNotFoundError:
        raise UnreadableError("a DICOM file; pip install pydicom to read it") from None
    return dicom


def _load(content: bytes) -> Image.Image:
    """The decoded file, upright, in the mode it came in."""
    if not content:
        raise UnreadableError("the file is empty")
    try:
        image = Image.open(BytesIO(content), formats=FORMATS)
        check_size(*image.size)
        check_frames(getattr(image, "n_frames", 1))
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return image
    except UnreadableError:
        raise
    except UnidentifiedImageError:
        raise UnreadableError("not an image") from None
    except Image.DecompressionBombError:
        raise UnreadableError(f"more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # whatever a broken file makes a decoder stumble over
        raise UnreadableError(f"broken: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in DEEP_MODES:
        image = _to_8_bit(image)
    elif image.mode == "F":
        raise UnreadableError("floating-point pixels, whose range is unknown; save it with 8 or 16 bits")
    elif image.mode == "P":
        image = image.convert("RGBA")  # so that a transparent palette keeps its colours
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > WHITE_16_BITS:
        raise UnreadableError("more than 16 bits per pixel; save it with 8 or 16")
    white = WHITE_12_BITS if values.max() <= WHITE_12_BITS else WHITE_16_BITS
    greys = np.rint(np.arange(white + 1) * (255 / white)).astype(np.uint8)
    return Image.fromarray(greys[values])


def _mask_values(image: Image.Image) -> Integer[np.ndarray, "h w"]:
    """Grey values as stored; the brightest colour where there are several."""
    if image.mode in DEEP_MODES:
        return np.asarray(image).astype(np.int64)
    return np.asarray(_to_rgb(image)).max(axis=2)
