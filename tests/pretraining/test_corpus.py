"""Several sets as one: rows, labels and files of each image stay its own."""

import numpy as np
import pytest

from pipeline.data.augment import Augmenter
from pipeline.errors import StudyError
from pipeline.params import AugmentationParams
from pipeline.pretraining.corpus import AugmentedCorpusBatch, refuse_unlabelled
from pipeline.training.batches import Wanted
from tests.pretraining.worlds import COLOURS, SCANS, SHADES, make_corpus

LEFT_AS_THEY_ARE = AugmentationParams(flip=False, quarter_turns=False, rotate_degrees=0, scale=0, brightness=0, hue=0)


@pytest.fixture
def corpus(tmp_path):
    return make_corpus(tmp_path, COLOURS, SCANS, SHADES)


def test_rows_follow_one_another(corpus):
    assert list(corpus.starts) == [0, 35, 70]
    numbers, local = corpus.place(np.array([0, 34, 35, 69, 70, 104]))
    assert list(numbers) == [0, 0, 1, 1, 2, 2]
    assert list(local) == [0, 34, 0, 34, 0, 34]


def test_a_split_holds_the_rows_of_every_set(corpus):
    train = corpus.sets[0].rows("train")
    np.testing.assert_array_equal(corpus.rows("train"), np.concatenate([train, train + 35, train + 70]))


def test_classes_of_labelled_sets_are_numbered_through(corpus):
    assert corpus.classes == tuple(f"{name}/{colour}" for name in ("colours", "shades") for colour in SHADES.classes)
    own = corpus.sets[0].index["label"].to_numpy()
    every = corpus.labels(np.arange(105))
    np.testing.assert_array_equal(every, np.concatenate([own, np.full(35, -1), own + 3]))


def test_images_and_files_are_those_of_their_sets(corpus):
    np.testing.assert_array_equal(corpus.images(np.array([72, 1]))[0], corpus.sets[2].images[2])
    assert corpus.files(np.array([72, 36])) == ["shades/2.png", "scans/1.png"]


def test_a_batch_holds_the_images_and_labels_of_its_rows(corpus):
    augmenters = tuple(Augmenter(LEFT_AS_THEY_ARE, one, 0) for one in corpus.about)
    rows = np.array([71, 3, 40])
    batch = AugmentedCorpusBatch(corpus, augmenters)(Wanted(rows, epoch=1))
    np.testing.assert_array_equal(batch.pixels, corpus.images(rows))
    np.testing.assert_array_equal(batch.labels, corpus.labels(rows))


def test_a_strategy_that_needs_labels_says_which_source_has_none(corpus):
    with pytest.raises(StudyError, match=r"pretraining\.sources\.scans: has no labels, which supervised needs"):
        refuse_unlabelled(corpus, "supervised")
