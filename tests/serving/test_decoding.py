"""Every form in which an image may come is the same image, and what is none is refused by its row."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.images import square_image
from pipeline.serving import decoding
from pipeline.serving.decoding import decode_images
from pipeline.serving.refusals import Refusal
from tests.serving.worlds import animated_gif, as_png, as_text, png_bomb

SIDE = 16
RGB = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


@pytest.fixture(scope="module")
def executor():
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def in_a_server(monkeypatch):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")


@pytest.mark.parametrize(
    "form",
    [
        as_png,
        lambda image: bytearray(as_png(image)),
        lambda image: as_text(as_png(image)),
        lambda image: base64.encodebytes(as_png(image)).decode(),
        lambda image: image,
        lambda image: image.astype(np.int64),
        lambda image: image[:, ::-1][:, ::-1],
        lambda image: image.tolist(),
    ],
    ids=["bytes", "bytearray", "base64", "base64 in lines", "uint8", "int64", "a view", "nested lists"],
)
@pytest.mark.parametrize("image", [RGB, GREY], ids=["rgb", "grey"])
def test_every_form_is_decoded_as_the_training_images_are(form, image, executor):
    (decoded,) = decode_images([form(image)], SIDE, None, executor)
    np.testing.assert_array_equal(decoded.square, square_image(as_png(image), SIDE))
    assert decoded.picture is None


@pytest.mark.parametrize("form", [bytes, as_text])
def test_a_dicom_file_is_decoded_as_any_other(form, executor, in_a_server):
    pytest.importorskip("pydicom")
    from tests.data.dicoms import dicom

    content = dicom(GREY, WindowCenter=100, WindowWidth=50)
    (decoded,) = decode_images([form(content)], SIDE, 40, executor)
    np.testing.assert_array_equal(decoded.square, square_image(content, SIDE))
    assert decoded.picture.size == (40, 24)
    with pytest.raises(Refusal, match=r"^row 0: a broken DICOM file"):
        list(decode_images([form(content[:-100])], SIDE, None, executor))


@pytest.mark.parametrize("form", [str, Path])
def test_a_path_is_read(form, executor, tmp_path):
    (tmp_path / "image.png").write_bytes(as_png(RGB))
    (decoded,) = decode_images([form(tmp_path / "image.png")], SIDE, None, executor)
    np.testing.assert_array_equal(decoded.square, square_image(as_png(RGB), SIDE))


def test_a_server_reads_no_path(executor, tmp_path, in_a_server):
    (tmp_path / "image.png").write_bytes(as_png(RGB))
    with pytest.raises(Refusal, match=r"^row 0: text that is not base64$"):
        list(decode_images([str(tmp_path / "image.png")], SIDE, None, executor))
    with pytest.raises(Refusal, match="reads no files"):
        list(decode_images([tmp_path / "image.png"], SIDE, None, executor))


def test_a_server_does_not_tell_which_files_there_are(executor, in_a_server):
    lines = []
    for path in ("/etc/passwd", "/etc/no-such-file"):
        with pytest.raises(Refusal) as refused:
            list(decode_images([path], SIDE, None, executor))
        lines.append(refused.value.line)
    assert lines[0] == lines[1]


@pytest.mark.parametrize("longest", [20, 100])
def test_the_picture_keeps_its_aspect_and_is_never_enlarged(longest, executor):
    (decoded,) = decode_images([RGB], SIDE, longest, executor)
    assert decoded.picture.size == {20: (20, 12), 100: (40, 24)}[longest]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "the file is empty"),
        (b"abc", "not an image"),
        ("", "the file is empty"),
        ("YWJj", "not an image"),
        ("%%%", "text that is neither base64 nor names a file"),
        ("bild\0.png", "text that is neither"),
        (Path("no-such.png"), "no-such.png: No such file"),
        (animated_gif(), "2 frames"),
        (png_bomb(60_000), "more than 50,000,000 pixels"),
        (png_bomb(8_000), "8000 x 8000 px are more than"),
        (np.broadcast_to(np.uint8(0), (10_000, 10_000, 3)), "10000 x 10000 px are more than"),
        ([[0] * 8_000] * 8_000, "8000 x 8000 px are more than"),
        (RGB[:15], "40 x 15 px is too small"),
        (RGB / 255, "no whole numbers from 0 to 255"),
        (RGB.astype(np.int64) - 1, "no whole numbers"),
        (RGB.astype(np.uint16) * 2, "no whole numbers"),
        (RGB > 0, "no whole numbers"),
        (RGB[..., :2], "an array of"),
        (RGB[None], "too small"),
        (np.zeros((20, 20, 3, 1), np.uint8), "an array of"),
        ([[0] * 20] * 19 + [[0]], "differ in length"),
        ([["a"] * 20] * 20, "no whole numbers"),
        ([], "too small"),
        ([1, 2], "too small"),
        (None, "nothing is given; give an image file as bytes"),
        (float("nan"), "nothing is given"),
        (7, "a value of type int is no image; give an image file"),
    ],
)
def test_what_is_no_image_is_refused_by_its_row(value, reason, executor):
    with pytest.raises(Refusal, match=f"^row 1: .*{reason}") as refused:
        list(decode_images([RGB, value], SIDE, None, executor))
    assert "\n" not in refused.value.line


@pytest.mark.parametrize("form", [bytes, lambda content: as_text(content), "file"])
def test_a_value_that_is_too_long_is_refused_before_it_is_decoded(form, executor, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_FILE_BYTES", 100)
    monkeypatch.setattr(decoding, "MAX_BODY_BYTES", 100)
    (tmp_path / "file").write_bytes(bytes(101))
    value = tmp_path / "file" if form == "file" else form(bytes(101))
    with pytest.raises(Refusal, match=r"row 0: .* bytes are more than the 100"):
        list(decode_images([value], SIDE, None, executor))


def test_the_first_row_that_is_wrong_is_named(executor):
    with pytest.raises(Refusal, match=r"^row 2:"):
        list(decode_images([RGB, RGB, b"abc", RGB, b""], SIDE, None, executor))


def test_images_keep_their_order(executor):
    many = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in range(50)]
    decoded = decode_images([as_png(np.asarray(image)) for image in many], SIDE, None, executor)
    assert [int(each.square[0, 0, 0]) for each in decoded] == list(range(50))
