"""Synthetic ultrasound."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from pipeline.data.phantom.shapes import TAG, Picture, canvas_of
from pipeline.data.phantom.ultrasound import (
    ARTEFACT,
    CLASSES,
    LESION,
    MARGIN,
    OVERLAY_RATES,
    POSTERIOR,
    SECOND_LESION,
    _speckle,
    draw_ultrasound,
)
from pipeline.params import UltrasoundPhantomParams

pytestmark = pytest.mark.slow

PARAMS = UltrasoundPhantomParams(
    images_per_class=6,
    width_px=112,
    near_copy_fraction=0.0,
    label_conflicts=0,
    confuse=0.0,
    shortcut_fraction=0.0,
    overlay_scale=0.0,
)


def draw(class_name: str, index: int, **changes: float) -> Picture:
    params = PARAMS.model_copy(update=changes)
    return draw_ultrasound(class_name, np.random.default_rng(index), params.width_px, params)


@pytest.mark.parametrize("class_name", ["benign", "malignant"])
def test_lesions_are_darker_than_the_tissue_around(class_name: str) -> None:
    darker = []
    for index in range(10):
        picture = draw(class_name, index)
        lesion = (picture.labels & LESION) > 0
        beside = (picture.labels == 0) & lesion.any(axis=1)[:, None]
        darker.append(picture.image[lesion].mean() + 10 < picture.image[beside].mean())
    assert np.mean(darker) >= 0.9


def test_normal_images_show_no_lesion() -> None:
    for index in range(10):
        assert not draw("normal", index).labels.any()


def test_behind_a_benign_lesion_it_is_brighter_than_behind_a_malignant_one() -> None:
    def behind(class_name: str) -> float:
        pictures = [draw(class_name, index) for index in range(12)]
        return float(np.mean([picture.image[(picture.labels & POSTERIOR) > 0].mean() for picture in pictures]))

    assert behind("benign") > behind("malignant") + 20


def test_malignant_lesions_are_larger_and_taller() -> None:
    def area_and_flatness(class_name: str) -> tuple[float, float]:
        masks = [(draw(class_name, index).labels & LESION) > 0 for index in range(16)]
        flatness = [mask.any(axis=0).sum() / mask.any(axis=1).sum() for mask in masks]
        return float(np.median([mask.mean() for mask in masks])), float(np.median(flatness))

    benign, malignant = area_and_flatness("benign"), area_and_flatness("malignant")
    assert 0.02 < benign[0] < 0.05 < malignant[0] < 0.15
    assert benign[1] > 1.2 > malignant[1]


def test_the_margin_runs_along_the_lesion() -> None:
    labels = draw("malignant", 0, width_px=280).labels
    edge = binary_dilation((labels & LESION) > 0) & ((labels & LESION) == 0)
    assert ((labels & MARGIN) > 0)[edge].mean() > 0.95


def test_a_second_lesion_stands_apart_and_is_rare() -> None:
    pictures = [draw("benign", index, width_px=56) for index in range(200)]
    second = [picture for picture in pictures if (picture.labels & SECOND_LESION).any()]
    assert 1 <= len(second) <= 14
    for picture in second:
        assert label(picture.labels & (LESION | SECOND_LESION))[1] == 2


def test_overlays_come_at_the_rates_of_the_real_set() -> None:
    for name in CLASSES:
        shown = [(draw(name, index, width_px=80, overlay_scale=1.0).labels & ARTEFACT).any() for index in range(120)]
        assert np.mean(shown) == pytest.approx(OVERLAY_RATES[name], abs=0.1)


def test_an_overlay_is_bright_and_changes_nothing_else() -> None:
    for index in range(6):
        plain, marked = draw("benign", index), draw("benign", index, overlay_scale=2.0)
        changed = (plain.image != marked.image).any(axis=-1)
        assert (marked.image >= plain.image).all()
        assert changed.mean() < 0.1
        np.testing.assert_array_equal(plain.labels, marked.labels & ~np.uint8(ARTEFACT))


def test_images_are_grey_but_for_a_tag() -> None:
    picture = draw("malignant", 1, shortcut_fraction=1.0)
    grey = (picture.image == picture.image[..., :1]).all(axis=-1)
    np.testing.assert_array_equal(grey, (picture.labels & TAG) == 0)


def test_the_aspect_is_that_of_the_real_images() -> None:
    assert draw("normal", 0).image.shape == (94, 112, 3)


def test_speckle_keeps_the_power_of_the_tissue() -> None:
    canvas = canvas_of(560, (560, 470))
    power = _speckle(np.random.default_rng(0), canvas, np.full(canvas.shape, 3.0)) ** 2
    assert power.mean() == pytest.approx(9, rel=0.05)
