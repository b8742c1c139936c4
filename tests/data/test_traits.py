"""What is read off an image beside its class: on drawn worlds, on phantoms that know the truth, on real samples."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from pipeline.data.images import decode_image
from pipeline.data.phantom.archive import Recipe, SetParams, render
from pipeline.data.phantom.cells import SECOND_BATCH_PREFIXES
from pipeline.data.phantom.shapes import Picture
from pipeline.data.phantom.ultrasound import ARTEFACT, CLASSES
from pipeline.data.traits import acquisition_batch, burnt_in_marks
from pipeline.params import load_params

PHANTOM = load_params(Path(__file__).parents[2] / "params.yaml").phantom
SIZES = ((560, 470), (160, 134))  # a real image, and a phantom of the embedded study
INK = (226, 226, 226)


def tissue(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Grey speckle, longer than high."""
    grains = gaussian_filter(np.random.default_rng(seed).normal(size=size[::-1]), (1.0, 2.5))
    grey = np.clip(100 + 35 * grains / grains.std(), 0, 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def written(image: Image.Image, text: str, place: tuple[float, float], colour: tuple[int, int, int] = INK) -> None:
    """At a place in shares of the image; 26 px high where it is 560 px wide."""
    corner = (place[0] * image.width, place[1] * image.height)
    ImageDraw.Draw(image).text(corner, text, fill=colour, font=ImageFont.load_default(26 * image.width / 560))


@pytest.mark.parametrize("size", SIZES)
def test_tissue_and_a_blank_image_are_plain(size: tuple[int, int]) -> None:
    assert [burnt_in_marks(tissue(size, seed)) for seed in range(5)] == ["plain"] * 5
    assert [burnt_in_marks(Image.new("RGB", size, (grey,) * 3)) for grey in (0, 128, 255)] == ["plain"] * 3


@pytest.mark.parametrize("size", SIZES)
def test_a_caption_is_a_mark(size: tuple[int, int]) -> None:
    written(image := tissue(size), "LEFT BREAST", (0.4, 0.8))
    assert burnt_in_marks(image) == "marked"


@pytest.mark.parametrize("size", SIZES)
def test_one_caliper_is_a_mark(size: tuple[int, int]) -> None:
    written(image := tissue(size), "+", (0.5, 0.5))
    assert burnt_in_marks(image) == "marked"


@pytest.mark.parametrize("size", SIZES)
def test_bright_reflectors_are_no_marks(size: tuple[int, int]) -> None:
    image, (width, height) = tissue(size), size
    draw = ImageDraw.Draw(image)
    draw.ellipse((0.3 * width, 0.3 * height, 0.36 * width, 0.34 * height), fill="white")
    draw.line((0.1 * width, 0.7 * height, 0.9 * width, 0.65 * height), fill="white", width=max(1, width // 140))
    assert burnt_in_marks(image) == "plain"


def test_the_name_of_the_scanner_in_its_corner_is_no_mark() -> None:
    written(image := tissue(SIZES[0]), "Q", (0, 0))
    assert burnt_in_marks(image) == "plain"
    written(image, "Q", (0.5, 0))
    assert burnt_in_marks(image) == "marked"


def test_colour_is_a_mark_even_in_that_corner() -> None:
    image = tissue(SIZES[0])
    ImageDraw.Draw(image).line((0, 5, 12, 5), fill=(150, 150, 110))
    assert burnt_in_marks(image) == "marked"


def test_the_tint_that_jpeg_leaves_on_grey_is_no_colour() -> None:
    tint = np.random.default_rng(0).integers(-8, 9, (*SIZES[0][::-1], 3))
    pixels = np.clip(np.asarray(tissue(SIZES[0]), dtype=int) + tint, 0, 255)
    assert burnt_in_marks(Image.fromarray(pixels.astype(np.uint8))) == "plain"


def test_the_batch_is_the_colour_of_the_light_however_much_of_it_is_covered() -> None:
    for white, batch in (((254, 229, 204), "first"), ((231, 223, 232), "second")):
        image = Image.new("RGB", (360, 363), white)
        assert acquisition_batch(image) == batch
        ImageDraw.Draw(image).rectangle((0, 0, 360, 310), fill=(96, 50, 140))
        assert acquisition_batch(image) == batch


def drawn(dataset: str, params: SetParams, classes: Iterable[str], images_per_class: int) -> list[Picture]:
    recipe = Recipe(dataset, params, seed=1)
    return [render(recipe, name, index) for name in classes for index in range(images_per_class)]


def precision_and_recall(found: list[bool], true: list[bool]) -> tuple[float, float]:
    both = sum(np.logical_and(found, true))
    return both / sum(found), both / sum(true)


@pytest.mark.slow
@pytest.mark.parametrize(("width_px", "images_per_class", "least"), [(160, 40, 0.9), (560, 6, 1.0)])
def test_marks_of_phantoms(width_px: int, images_per_class: int, least: float) -> None:
    params = PHANTOM.busi.model_copy(update={"width_px": width_px})
    pictures = drawn("busi", params, CLASSES, images_per_class)
    found = [burnt_in_marks(Image.fromarray(picture.image)) == "marked" for picture in pictures]
    assert min(precision_and_recall(found, [bool((one.labels & ARTEFACT).any()) for one in pictures])) >= least


@pytest.mark.parametrize("width_px", [120, 360])
def test_batches_of_phantoms(width_px: int) -> None:
    params = PHANTOM.pbc.model_copy(update={"width_px": width_px, "second_batch_fraction": 0.5})
    pictures = drawn("pbc", params, SECOND_BATCH_PREFIXES, 8)  # the classes whose file names tell the batch
    batches = ["second" if one.variant in SECOND_BATCH_PREFIXES.values() else "first" for one in pictures]
    assert set(batches) == {"first", "second"}
    assert [acquisition_batch(Image.fromarray(one.image)) for one in pictures] == batches


# Files that show text, calipers or coloured lines; as many of each class as the samples' README counts.
MARKED = {
    "benign": {1, 2, 3, 4, 5, 6, 9, 11, 13, 14, 19, 22, 34, 46},
    "malignant": {2, 10, 11, 12, 13, 14, 15, 26},
    "normal": {25, 31},
}


def test_marks_of_real_images(samples: Path) -> None:
    found: dict[str, set[int]] = {name: set() for name in MARKED}
    for path in (samples / "busi").rglob("* (*).png"):
        if burnt_in_marks(decode_image(path.read_bytes())) == "marked":
            found[path.parent.name].add(int(re.findall(r"\d+", path.name)[0]))
    assert found == MARKED


@pytest.mark.slow
def test_batches_of_real_images(samples: Path) -> None:
    images = [decode_image(path.read_bytes()) for path in sorted((samples / "pbc").rglob("*.jpg"))]
    batches = [acquisition_batch(image) for image in images]
    assert batches == ["first" if image.size == (360, 363) else "second" for image in images]
    assert batches.count("second") == 17
