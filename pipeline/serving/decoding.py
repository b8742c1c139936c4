"""From a value of a request to an image: an encoded file (bytes, base64, a path) or 8-bit pixels (array, nested lists).

Whatever form an image comes in, it goes the way of the training images: RGB, stretched to the model's square.
"""

import base64
import binascii
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pipeline.data.images import decode_image, to_square
from pipeline.data.unreadable import UnreadableError, check_size
from pipeline.serving.limits import MAX_BODY_BYTES, MAX_FILE_BYTES, in_server
from pipeline.serving.refusals import Refusal

PIXELS = "8-bit pixels as an array [h, w, 3] or [h, w]"


@dataclass(frozen=True)
class DecodedImage:
    square: UInt8[np.ndarray, "s s 3"]  # as the model sees it
    picture: Image.Image | None  # in its own aspect, for a heatmap to be drawn over


def decode_images(
    values: Sequence[object], image_size_px: int, picture_px: int | None, executor: Executor
) -> Iterator[DecodedImage]:
    """The image of each value, in order; what is not yet begun when the caller stops is left undone.

    Args:
        picture_px: the longest side of the pictures; None where none are needed.
        executor: of threads, as Pillow lets others run while it decodes.

    Raises:
        Refusal: a value is no image; the row is named.
    """
    decode_row = partial(_decode_row, image_size_px=image_size_px, picture_px=picture_px)
    run = executor.map if len(values) > 1 else map
    return iter(run(decode_row, count(), values))


def _decode_row(row: int, value: object, image_size_px: int, picture_px: int | None) -> DecodedImage:
    try:
        image = decode(value)
    except UnreadableError as error:
        raise Refusal(f"row {row}: {error}") from None
    square = to_square(image, image_size_px)
    if picture_px:
        image.thumbnail((picture_px, picture_px))  # in place: a copy first would double what a large image takes
    return DecodedImage(square, image if picture_px else None)


def decode(value: object) -> Image.Image:
    """The image in RGB at its own size; raises UnreadableError."""
    if isinstance(value, np.ndarray | list | tuple):
        return _from_pixels(value)
    if isinstance(value, os.PathLike):
        return decode_image(_read_file(Path(value)))
    if isinstance(value, str):
        return decode_image(_read_file(Path(value)) if _names_file(value) else _from_base64(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return decode_image(_limited(bytes(value)))
    nothing = value is None or (isinstance(value, float) and math.isnan(value))
    given = "nothing is given" if nothing else f"a value of type {type(value).__name__} is no image"
    raise UnreadableError(f"{given}; give {forms()}")


def forms() -> str:
    """In words, what a value may be."""
    files = "in base64" if in_server() else "as bytes, in base64 or by its path"
    return f"an image file {files}, or {PIXELS}"


def _names_file(text: str) -> bool:
    """In a server no text does: no client may find out what lies on its disk."""
    return not in_server() and os.path.isfile(text)


def _read_file(path: Path) -> bytes:
    if in_server():
        raise UnreadableError("a server reads no files; send the image itself")
    try:
        _check_length(path.stat().st_size, MAX_FILE_BYTES)
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path}: {error.strerror or error}") from None


def _from_base64(text: str) -> bytes:
    _check_length(len(text), MAX_BODY_BYTES)
    try:
        return base64.b64decode("".join(text.split()), validate=True)  # the `base64` command breaks lines
    except (binascii.Error, ValueError):
        reason = "text that is not base64" if in_server() else "text that is neither base64 nor names a file"
        raise UnreadableError(reason) from None


def _limited(content: bytes) -> bytes:
    _check_length(len(content), MAX_FILE_BYTES)
    return content


def _check_length(length: int, most: int) -> None:
    if length > most:
        raise UnreadableError(f"{length:,} bytes are more than the {most:,} that an image may have")


def _from_pixels(value: np.ndarray | Sequence) -> Image.Image:
    """Floats are refused: [0, 1], [0, 255] and normalised values cannot be told apart with certainty."""
    check_size(*_size(value))
    try:
        pixels = np.asarray(value)
    except ValueError:
        raise UnreadableError("its pixels are no array: its rows differ in length") from None
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)):
        raise UnreadableError(f"an array of {list(pixels.shape)}; give [h, w, 3] (RGB) or [h, w] (grey)")
    if pixels.dtype.kind not in "ui" or pixels.min() < 0 or pixels.max() > 255:
        raise UnreadableError("pixels that are no whole numbers from 0 to 255; give them as uint8")
    return Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).convert("RGB")


def _size(value: np.ndarray | Sequence) -> tuple[int, int]:
    """Width and height as far as the first row tells, before nested lists are made an array."""
    first = value[0] if len(value) else ()
    return len(first) if isinstance(first, np.ndarray | list | tuple) else 0, len(value)
