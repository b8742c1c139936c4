"""Requests and images for the tests of the served model."""

import base64
import io
import struct
import zlib

import numpy as np
import pandas as pd
from PIL import Image


def as_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def as_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def in_base64(images: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"image": [as_text(as_png(image)) for image in images]})


def animated_gif() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (32, 32), shade) for shade in (0, 255)]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def png_bomb(side_px: int) -> bytes:
    """A PNG of a few bytes whose header promises a square of that side."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
