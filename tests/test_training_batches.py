"""Batches: what they hold, how processes share them, and that loaders' processes end and their errors are a line."""

import os
import signal
from contextlib import closing

import albumentations as A
import numpy as np
import psutil
import pytest
import torch
from torch import nn

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import load_prepared, to_tensor
from pipeline.errors import StudyError
from pipeline.params import AugmentationParams
from pipeline.training.batches import PreparedBatch, Wanted, class_weights, labels_of, load_batches, unit_images
from pipeline.training.finetuning import FineTuning, build_criterion
from pipeline.training.processes import Processes, Share
from tests.models.tiny import build
from tests.prepared import about, write_prepared
from tests.test_training import AUGMENTATION, PARAMS

CPU = torch.device("cpu")
AS_THEY_ARE = AugmentationParams(**dict.fromkeys(AUGMENTATION, 0.0) | {"flip": False, "quarter_turns": False})


@pytest.fixture
def data(tmp_path):
    return load_prepared(write_prepared(tmp_path / "prepared"))


def maker(data, share=Share(), params=AS_THEY_ARE):  # noqa: B008 (it is frozen)
    return PreparedBatch(data, Augmenter(params, about(), seed=0), share)


def test_bytes_become_the_floats_that_other_stages_see():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    made = unit_images(torch.from_numpy(pixels))
    assert torch.equal(made, to_tensor(pixels))
    assert made.is_contiguous()


def test_batches_hold_the_rows_they_name_in_order(data):
    wanted = [Wanted(np.array([3, 0, 9]), epoch=1), Wanted(np.array([20, 21]))]
    first, second = load_batches(maker(data), wanted, 0, CPU)
    for batch, (rows, _) in zip((first, second), wanted, strict=True):
        np.testing.assert_array_equal(batch.rows, rows)
        np.testing.assert_array_equal(batch.pixels, data.images[rows])
        np.testing.assert_array_equal(batch.labels, labels_of(data, rows))


def test_validation_images_are_not_augmented(data):
    make, rows = maker(data, params=AugmentationParams(**AUGMENTATION)), np.arange(6)
    np.testing.assert_array_equal(make(Wanted(rows)).pixels, data.images[rows])
    assert (make(Wanted(rows, epoch=1)).pixels.numpy() != data.images[rows]).any()


@pytest.mark.parametrize("class_balance", ["loss", "none"])
@pytest.mark.parametrize("processes", [1, 2, 4])  # the fourth has no image of its own
def test_the_processes_parts_of_the_loss_are_the_mean_over_the_batch(processes, class_balance, data):
    params, model, rows = PARAMS.model_copy(update={"class_balance": class_balance}), build("vit"), np.array([0, 9, 13])
    parts = []
    for position in range(processes):
        own = Processes(Share(position, processes))
        augmenter = Augmenter(AS_THEY_ARE, about(), seed=0)
        tuning = FineTuning(model, model, build_criterion(data, params), data, augmenter, params, 0, CPU, own)
        parts.append(tuning.loss(maker(data, own.share)(Wanted(rows, epoch=1)), 1).item())
    weight = torch.from_numpy(class_weights(data)).float() if class_balance == "loss" else None
    whole = nn.CrossEntropyLoss(weight, label_smoothing=params.label_smoothing)
    expected = whole(model(to_tensor(data.images[rows])), torch.from_numpy(labels_of(data, rows)))
    assert sum(parts) == pytest.approx(expected.item(), rel=1e-5)
    assert parts[3:] == [0.0] * (processes - 3)


def test_an_image_that_cannot_be_augmented_is_named(data):
    make = maker(data)
    make.augmenter.transform = A.Compose([A.Crop(x_max=99, y_max=99)])
    with pytest.raises(StudyError, match=r"augmentation: 3\.png of colours cannot be augmented in epoch 2: .*; switch"):
        make(Wanted(np.array([3]), epoch=2))


def test_an_image_that_cannot_be_read_is_named_in_the_middle(data, tmp_path):
    wanted = [Wanted(np.array([0, 1]), epoch=1), Wanted(np.array([2, 34]), epoch=1)]
    batches = load_batches(maker(data), wanted, 0, CPU)
    next(batches)
    os.truncate(tmp_path / "prepared/images.npy", 50_000)
    with pytest.raises(StudyError, match=r"row 34 \(34\.png\) cannot be read"):
        next(batches)


@pytest.mark.slow
def test_an_error_in_a_loaders_process_is_one_line_and_ends_it():
    wanted = [Wanted(np.array([0, 1]), epoch=1), Wanted(np.array([2, 99]), epoch=1)]
    batches = load_batches(Refusing(), wanted, 1, CPU)
    next(batches)
    with pytest.raises(StudyError, match=r"^row 99 is refused$"):
        next(batches)
    assert not loaders()


@pytest.mark.slow
def test_loaders_end_with_the_training_and_a_killed_one_is_told():
    wanted = [Wanted(np.array([row]), epoch=1) for row in range(50)]
    with closing(load_batches(Refusing(), wanted, 1, CPU)) as batches:
        assert next(batches).tolist() == [0]
    assert not loaders()
    batches = load_batches(Refusing(), wanted, 1, CPU)
    next(batches)
    os.kill(loaders()[0].pid, signal.SIGKILL)
    with pytest.raises(StudyError, match=r"^workers: one of 1 processes that load images was ended from outside"):
        list(batches)


class Refusing:
    """Makes a batch of the rows alone, and refuses row 99."""

    def __call__(self, wanted):
        if 99 in wanted.rows:
            raise StudyError("row 99 is refused")
        return wanted.rows


def loaders():
    """Processes that multiprocessing spawned, but for its own tracker."""
    children = psutil.Process().children()
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
