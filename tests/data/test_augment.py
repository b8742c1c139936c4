"""Augmentation follows from (seed, epoch, row) alone, keeps the centre, and does what the set allows."""

import json
from dataclasses import replace

import albumentations as A
import numpy as np
import pytest

from pipeline.data import DATASETS
from pipeline.data.augment import Augmenter, transforms
from pipeline.params import AugmentationParams
from tests.prepared import about

PARAMS = AugmentationParams(flip=True, quarter_turns=True, rotate_degrees=15, scale=0.1, brightness=0.15, hue=0.02)
NOTHING = AugmentationParams(flip=False, quarter_turns=False, rotate_degrees=0, scale=0, brightness=0, hue=0)
SPEC = DATASETS["pbc"]
IMAGE = np.random.default_rng(0).integers(256, size=(32, 32, 3), dtype=np.uint8)


def names(params, **changes):
    return [type(transform).__name__ for transform in transforms(params, about(replace(SPEC, **changes)))]


def test_an_image_does_not_depend_on_those_before():
    first, second = Augmenter(PARAMS, about(SPEC), seed=1), Augmenter(PARAMS, about(SPEC), seed=1)
    in_order = {row: first(IMAGE, 3, row) for row in range(20)}
    for row in reversed(range(20)):
        np.testing.assert_array_equal(second(IMAGE, 3, row), in_order[row])


@pytest.mark.parametrize(("seed", "epoch", "row"), [(2, 3, 4), (1, 4, 4), (1, 3, 5)])
def test_seed_epoch_and_row_each_count(seed, epoch, row):
    image = Augmenter(PARAMS, about(SPEC), seed=1)(IMAGE, 3, 4)
    assert not np.array_equal(Augmenter(PARAMS, about(SPEC), seed=seed)(IMAGE, epoch, row), image)


def test_the_image_given_is_left_alone():
    image = IMAGE.copy()
    for row in range(20):
        result = Augmenter(PARAMS, about(SPEC), seed=0)(image, 1, row)
        assert (result.shape, result.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(image, IMAGE)


def test_only_the_flips_that_the_set_allows():
    flips = PARAMS.model_copy(update=NOTHING.model_dump() | {"flip": True})
    assert names(flips, flips=("horizontal",)) == ["HorizontalFlip"]
    augment = Augmenter(flips, about(replace(SPEC, flips=("horizontal",))), seed=0)
    seen = {augment(IMAGE, 1, row).tobytes() for row in range(30)}
    assert seen == {IMAGE.tobytes(), np.ascontiguousarray(IMAGE[:, ::-1]).tobytes()}


def test_only_a_set_without_an_up_is_turned_by_quarters():
    turns = PARAMS.model_copy(update=NOTHING.model_dump() | {"quarter_turns": True})
    assert names(turns, flips=("horizontal",)) == []
    augment = Augmenter(turns, about(replace(SPEC, flips=("horizontal", "vertical"))), seed=0)
    seen = {augment(IMAGE, 1, row).tobytes() for row in range(60)}
    assert seen == {np.rot90(IMAGE, quarters).tobytes() for quarters in range(4)}


def test_hue_is_for_colour_images_only():
    assert "HueSaturationValue" in names(PARAMS, colour=True)
    assert "HueSaturationValue" not in names(PARAMS, colour=False)


def test_a_grey_image_stays_grey():
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    augment = Augmenter(PARAMS, about(replace(SPEC, colour=False)), seed=0)
    for row in range(20):
        assert np.ptp(augment(grey, 1, row), axis=2).max() == 0


def test_the_centre_stays_the_centre():
    dot = np.zeros((33, 33, 3), np.uint8)
    dot[15:18, 15:18] = 255
    augment = Augmenter(PARAMS.model_copy(update={"brightness": 0.0}), about(SPEC), seed=0)
    for row in range(30):
        weights = augment(dot, 1, row)[..., 0].astype(float)
        centre = (weights.sum(axis=1) @ range(33), weights.sum(axis=0) @ range(33)) / weights.sum()
        np.testing.assert_allclose(centre, 16, atol=0.3)


def test_nothing_asked_nothing_done():
    np.testing.assert_array_equal(Augmenter(NOTHING, about(SPEC), seed=0)(IMAGE, 1, 1), IMAGE)


def test_the_recipe_rebuilds_the_transform():
    augment = Augmenter(PARAMS, about(SPEC), seed=0)
    recipe = json.loads(json.dumps(augment.recipe))
    assert A.to_dict(A.from_dict(recipe)) == augment.recipe
