"""The views of multi-crop training: drawn from (seed, epoch, row) alone, in the order the loss takes them."""

import numpy as np
import pytest

from pipeline.params import ViewParams
from pipeline.pretraining.crops import Cropper, MultiCropBatch
from pipeline.training.batches import Wanted
from tests.prepared import about
from tests.pretraining.worlds import COLOURS, SHADES, make_corpus

VIEWS = ViewParams(
    local_views=3, local_size_px=16, global_scale=(0.4, 1.0), local_scale=(0.1, 0.4), brightness=0.2, saturation=0.1,
    hue=0.02, grey=0.1, blur_sigma_px=1.0,
)  # fmt: skip


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path)


def batch_of(corpus, rows, epoch=1, views=VIEWS):
    croppers = tuple(Cropper(views, one, corpus.image_size_px, seed=0) for one in corpus.about)
    return MultiCropBatch(corpus, croppers)(Wanted(np.array(rows), epoch))


def test_views_have_their_sizes(corpus):
    batch = batch_of(corpus, [0, 40])
    assert batch.global_views.shape == (2 * 2, 3, 32, 32)
    assert batch.local_views.shape == (3 * 2, 3, 16, 16)


def test_an_image_has_the_same_views_in_any_batch_and_others_in_another_epoch(corpus):
    alone, together = batch_of(corpus, [40]), batch_of(corpus, [3, 40])
    assert (alone.global_views[0] == together.global_views[1]).all()
    assert (alone.global_views[1] == together.global_views[3]).all()
    assert (alone.local_views[2] == together.local_views[5]).all()
    assert (alone.global_views != batch_of(corpus, [40], epoch=2).global_views).any()


def test_the_views_of_an_image_differ(corpus):
    first, second = batch_of(corpus, [0]).global_views
    assert (first != second).any()


def test_without_local_views_there_are_none(corpus):
    assert len(batch_of(corpus, [0], views=VIEWS.model_copy(update={"local_views": 0})).local_views) == 0


@pytest.mark.parametrize(("spec", "hued"), [(COLOURS, True), (SHADES, False)])
def test_only_sets_whose_colours_mean_something_are_recoloured(spec, hued):
    names = {type(step).__name__ for step in Cropper(VIEWS, about(spec), 32, seed=0).large.transforms}
    assert ("ToGray" in names) is hued
    assert ("VerticalFlip" in names) is hued  # a smear has no up or down, an ultrasound has
