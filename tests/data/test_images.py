"""The decoder, over every oddity that an image file can have."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.data.images import decode_image, decode_mask, header_of, mask_to_square, square_image
from pipeline.data.unreadable import UnreadableError
from tests.data.sets import box, encoded, noise

RED = Image.new("RGB", (20, 20), (255, 0, 0))


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode_image(content))


def deep(values: list[int]) -> bytes:
    """16-bit grey rows of the values."""
    return encoded(Image.fromarray(np.repeat(np.array(values, dtype=np.uint16)[:, None], 20, axis=1)))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.fromarray(box()).convert("RGB")
    content = encoded(grey.convert(mode), "JPEG" if mode in ("CMYK", "YCbCr") else "PNG")
    difference = pixels(content).astype(int) - np.asarray(grey)
    assert np.abs(difference).max() <= 4  # JPEG is not exact


def test_transparency_is_dropped_and_colour_stays() -> None:
    rgba = RED.convert("RGBA")
    rgba.putalpha(0)
    assert (pixels(encoded(rgba)) == (255, 0, 0)).all()


def test_a_transparent_palette_keeps_its_colours() -> None:
    palette = RED.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (pixels(encoded(palette, transparency=0)) == (255, 0, 0)).all()


def test_16_bit_grey_spans_the_range_of_16_bits() -> None:
    assert pixels(deep([0, 257, 32896, 65535] * 4))[:4, 0, 0].tolist() == [0, 1, 128, 255]


def test_12_bits_in_a_16_bit_file_span_the_range_of_12() -> None:
    assert pixels(deep([0, 2048, 4095, 0] * 4))[:3, 0, 0].tolist() == [0, 128, 255]


def test_exif_orientation_is_applied() -> None:
    image = Image.fromarray(noise(0, 20, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    assert decode_image(encoded(image, exif=exif.tobytes())).size == (20, 40)
    assert (pixels(encoded(image, exif=exif.tobytes())) == np.rot90(np.asarray(image), -1)).all()


def decoded_by_copies(content: bytes) -> np.ndarray:
    """The decoder written again, plainly and with a copy for every step."""
    image = Image.open(BytesIO(content))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(np.rint(values * (255 / (4095 if values.max() <= 4095 else 65535))).astype(np.uint8))
    return np.asarray((image.convert("RGBA") if image.mode == "P" else image).convert("RGB"))


KINDS = [
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK", "YCbCr")),
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "CMYK"), ("WEBP", "RGB"), ("WEBP", "RGBA"), ("BMP", "RGB"),
    ("BMP", "L"), ("GIF", "P"),
]  # fmt: skip


@pytest.mark.parametrize("turned", range(9))
@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_no_byte_depends_on_how_often_the_image_is_copied(kind: str, mode: str, turned: int) -> None:
    image = Image.fromarray(noise(0, 20, 41)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[0x0112] = turned  # 1 is upright, 0 is none of the standard's
    content = encoded(image, kind, **({} if kind in ("BMP", "GIF") else {"exif": exif}))
    plain = decoded_by_copies(content)
    assert (pixels(content) == plain).all()
    decoded = decode_image(content)
    decoded.thumbnail((10, 10))
    (expected := Image.fromarray(plain)).thumbnail((10, 10))
    assert decoded.tobytes() == expected.tobytes()


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "L"), ("JPEG", "RGB"), ("PNG", "I;16")])
def test_the_header_tells_format_and_mode(kind: str, mode: str) -> None:
    content = deep([1] * 20) if mode == "I;16" else encoded(RED.convert(mode), kind)
    assert header_of(content) == (kind, mode)


def test_the_content_decides_what_a_file_is() -> None:
    assert (pixels(encoded(RED)) == (255, 0, 0)).all()
    with pytest.raises(UnreadableError, match="not an image"):
        decode_image(b"this is not an image")


def test_refusals_say_why() -> None:
    jpeg = encoded(noise(0, 64, 64), "JPEG")
    frames = encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (20, 20))])
    refused = {
        "the file is empty": b"",
        "broken: ": jpeg[: len(jpeg) // 2],
        "2 frames": frames,
        "20 x 3 px is too small; each side needs 16": encoded(noise(0, 3, 20)),
        "1 x 1 px is too small": encoded(noise(0, 1, 1)),
        "range is unknown": encoded(Image.new("F", (20, 20)), "TIFF"),
    }
    for reason, content in refused.items():
        with pytest.raises(UnreadableError, match=reason):
            decode_image(content)


@pytest.mark.parametrize("side", [7100, 14000])
def test_a_pixel_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(UnreadableError, match="50,000,000 pixels"):
        decode_image(encoded(Image.new("1", (side, side))))


def test_an_image_is_stretched_to_the_square_without_aliasing() -> None:
    stripes = np.zeros((64, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    square = square_image(encoded(stripes), 16)
    assert square.shape == (16, 16, 3)
    assert np.abs(square[2:-2, 2:-2].astype(int) - 127).max() <= 2  # grey, where taking every 8th column gives white


def test_a_constant_image_stays_constant() -> None:
    assert (square_image(encoded(RED), 32) == (255, 0, 0)).all()


@pytest.mark.parametrize(("white", "half"), [(1, 1), (255, 128), (4095, 2048), (65535, 32768)])
def test_a_deep_mask_counts_from_half_of_its_white_on(white: int, half: int) -> None:
    assert decode_mask(deep([white, half, half - 1, 0] * 5))[:4, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize("white", [1, 255])
def test_a_mask_is_read_alike_from_every_mode(white: int) -> None:
    values = box() // 255 * white
    grey = Image.fromarray(values)
    versions = [grey, grey.convert("RGB"), Image.merge("RGBA", [*[grey] * 3, Image.new("L", grey.size, 255)])]
    deep_grey = Image.fromarray(values.astype(np.uint16))
    for version in [*versions, deep_grey]:
        assert (decode_mask(encoded(version)) == (box() > 0)).all()
    assert (decode_mask(encoded(Image.fromarray(box() > 0))) == (box() > 0)).all()


def test_soft_edges_of_a_mask_count_from_half_of_white_on() -> None:
    row = np.repeat(np.array([[0, 127, 128, 255]], dtype=np.uint8), 5, axis=1)
    assert (decode_mask(encoded(np.repeat(row, 20, axis=0)))[0] == (row[0] >= 128)).all()


@pytest.mark.parametrize("kind", ["L", "RGB", "I;16"])
@pytest.mark.parametrize("labels", [(3,), (1, 2), (31,), (1, 2, 3, 4, 5, 6, 7)])
def test_every_label_of_a_map_of_labels_counts(labels: tuple[int, ...], kind: str) -> None:
    row = np.array([0, *labels, *[0] * 20], dtype=np.uint16 if kind == "I;16" else np.uint8)
    picture = Image.fromarray(np.tile(row, (20, 1)))
    mask = decode_mask(encoded(picture.convert("RGB") if kind == "RGB" else picture))
    assert (mask == (row > 0)).all()


@pytest.mark.parametrize("values", [range(9), (0, 32), (0, 1, 2, 255), (3, 4)])
def test_what_is_no_map_of_labels_counts_from_half_of_white_on(values: Sequence[int]) -> None:
    """Too many values, too large ones, white among them, no ground."""
    row = np.array([*values] * 4, dtype=np.uint8).repeat(3)
    assert (decode_mask(encoded(np.tile(row, (20, 1)))) == (row >= 128)).all()


def test_specks_of_compression_are_no_mask() -> None:
    assert not decode_mask(encoded(np.full((20, 20), 3, dtype=np.uint8))).any()


def test_a_mask_keeps_the_pixels_that_it_half_covers() -> None:
    mask = np.zeros((32, 64), dtype=bool)
    mask[:, :30] = True  # 7.5 of the 16 columns
    assert mask_to_square(mask, 16).sum(axis=1).tolist() == [8] * 16
