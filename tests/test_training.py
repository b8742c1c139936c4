"""The training: its schedule and weights by hand, what it writes, and that a killed one ends with the same bytes."""

import json
import math
import os
import re

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from pipeline.clock import duration
from pipeline.data.augment import Augmenter
from pipeline.data.prepared import load_prepared
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import FinetuneParams, ModelParams, StudyParams
from pipeline.records import Receipt
from pipeline.seeds import cell_seed
from pipeline.training import fit_cell
from pipeline.training.batches import class_weights, epoch_order, labels_of
from pipeline.training.loop import build_optimizer, epoch_line, schedule
from pipeline.training.state import Course, EpochRow
from tests.models.tiny import ARCHITECTURES, MODELS, build
from tests.prepared import CLASSES, write_prepared

pytestmark = pytest.mark.slow

AUGMENTATION = {"flip": True, "quarter_turns": True, "rotate_degrees": 10, "scale": 0.1, "brightness": 0.1, "hue": 0.01}
PARAMS = FinetuneParams(
    epochs=4, warmup_epochs=1, batch_size=5, weight_decay=0.05, label_smoothing=0.1, class_balance="loss",
    gradient_clip=1.0, patience=4, precision="auto", workers=0, processes=1, compile=False, augmentation=AUGMENTATION,
)  # fmt: skip
STUDY = StudyParams(datasets=("colours",), models=MODELS, seed=0, seeds=(), device="cpu", threads=1)
WRITTEN = ("model.safetensors", "history.csv", "receipt.json")


class Killed(Exception):
    pass


@pytest.fixture
def prepared(tmp_path):
    return write_prepared(tmp_path / "prepared")


def model_params(model, **changes):
    arch, options = ARCHITECTURES[model]
    return ModelParams(**{"arch": arch, "arch_options": options, "weights": "none", "learning_rate": 3e-3} | changes)


def fit(prepared, name, model="vit", params=PARAMS, study=STUDY, kill_after=None, **changes):
    """The folder of the model; `name` is that of the run, whose state lies beside it.

    Args:
        kill_after: so many batches; an epoch has three.
    """

    def progress(done, total):
        if done == kill_after:
            raise Killed

    folder = prepared.parent / name
    arguments = (prepared, folder / "model", folder / "state", model, model_params(model, **changes), params)
    fit_cell(*arguments, study, progress)
    return folder / "model"


def hashes(folder):
    return {name: sha256_of(folder / name) for name in WRITTEN}


@pytest.mark.parametrize("model", MODELS)
def test_it_learns_colours_and_writes_what_it_learned(model, prepared):
    folder = fit(prepared, "run", model)
    receipt, history = Receipt.read(folder), pd.read_csv(folder / "history.csv")
    assert receipt.best_validation_macro_f1 == pytest.approx(history["validation_macro_f1"].max())
    assert receipt.best_epoch == history["validation_macro_f1"].idxmax() + 1
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert receipt.checkpoint_sha256 == sha256_of(folder / "model.safetensors")
    assert receipt.classes == load_checkpoint(folder / "model.safetensors")[1].classes == CLASSES
    assert not (prepared.parent / "run" / "state").exists()


@pytest.mark.parametrize("model", ["vit", "swin"])  # Swin drops paths at random
@pytest.mark.parametrize("batches", [3, 10, 12])
def test_a_killed_training_ends_with_the_bytes_of_an_uninterrupted_one(model, batches, prepared):
    whole = fit(prepared, "whole", model)
    with pytest.raises(Killed):
        fit(prepared, "killed", model, kill_after=batches)
    assert not (prepared.parent / "killed" / "model").exists()
    assert hashes(fit(prepared, "killed", model)) == hashes(whole)


def test_an_epochs_last_batch_is_told_when_its_state_is_saved(prepared):
    told, state = [], prepared.parent / "run" / "state" / "state.safetensors"

    def progress(done, total):
        told.append((done, total, epochs_in(state)))

    arguments = (prepared, prepared.parent / "run" / "model", state.parent, "vit", model_params("vit"), PARAMS, STUDY)
    fit_cell(*arguments, progress)
    assert told == [(done, 12, done // 3) for done in range(1, 13)]


def epochs_in(state):
    if not state.exists():
        return 0
    with safe_open(state, "pt") as file:
        return len(json.loads(file.metadata()["state"])["history"])


def test_a_resumed_training_does_not_start_anew(prepared):
    with pytest.raises(Killed):
        fit(prepared, "run", kill_after=6)
    with pytest.raises(Killed):  # the first batch told is the seventh
        fit(prepared, "run", kill_after=7)
    fit(prepared, "run", kill_after=6)


@pytest.mark.parametrize(
    "changed",
    [
        {"learning_rate": 1e-3},
        {"params": PARAMS.model_copy(update={"label_smoothing": 0.0})},
        {"study": STUDY.model_copy(update={"seed": 1})},
    ],
)
def test_state_of_other_parameters_is_ignored(changed, prepared):
    with pytest.raises(Killed):
        fit(prepared, "run", kill_after=6)
    assert hashes(fit(prepared, "run", **changed)) == hashes(fit(prepared, "fresh", **changed))


def test_damaged_state_is_ignored(prepared):
    with pytest.raises(Killed):
        fit(prepared, "run", kill_after=6)
    state = prepared.parent / "run" / "state" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:500])
    assert hashes(fit(prepared, "run")) == hashes(fit(prepared, "fresh"))


@pytest.mark.slow
def test_loader_processes_change_nothing(prepared):
    alone, helped = (fit(prepared, str(n), params=PARAMS.model_copy(update={"workers": n})) for n in (0, 2))
    assert hashes(alone) == hashes(helped)


def test_models_of_one_architecture_start_from_different_weights(prepared):
    twin = {"arch": ARCHITECTURES["vit"][0]}
    vit, dino = (load_checkpoint(fit(prepared, m, m, **twin) / "model.safetensors")[0] for m in ("vit", "dino"))
    assert not torch.equal(vit.backbone.pos_embed, dino.backbone.pos_embed)


def test_patience_ends_the_training(prepared):
    params = PARAMS.model_copy(update={"epochs": 30, "patience": 2})
    receipt = Receipt.read(fit(prepared, "run", params=params, learning_rate=1e-9))
    assert receipt.epochs_run == receipt.best_epoch + 2 < 30


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_receipt_tells_the_precision(precision, prepared):
    params = PARAMS.model_copy(update={"precision": precision})
    assert Receipt.read(fit(prepared, "run", params=params)).precision == precision


def test_a_loss_that_is_not_finite_names_epoch_batch_and_files(prepared):
    """The first step spoils the weights, so the second batch shows it."""
    second = epoch_order(load_prepared(prepared), "loss", cell_seed(cell_seed(0, "colours", "vit"), "order", 1))[5:10]
    files = ", ".join(f"{row}.png" for row in second[:4])
    message = f"models.vit.learning_rate: the loss is nan in epoch 1, batch 2 of 3, at {files} and 1 more; lower it"
    with pytest.raises(StudyError, match=f"^{re.escape(message)}$"):
        fit(prepared, "run", learning_rate=1e30)


def test_an_image_that_cannot_be_read_in_the_middle_is_named_with_its_file_first(prepared, tmp_path):
    images = prepared / "images.npy"
    arguments = prepared, tmp_path / "model", tmp_path / "state", "vit", model_params("vit"), PARAMS, STUDY
    with pytest.raises(StudyError, match=rf"^{re.escape(str(images))}: row \d+ \(\d+\.png\) cannot be read"):
        fit_cell(*arguments, progress=lambda done, total: os.truncate(images, 20_000))


def test_an_augmentation_that_fails_is_told_under_its_section(prepared, monkeypatch):
    monkeypatch.setattr(Augmenter, "__call__", lambda *arguments: 1 / 0)
    with pytest.raises(StudyError, match=r"^finetune\.augmentation: \d+\.png of colours cannot be augmented"):
        fit(prepared, "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "vit_of_tomorrow"}, r"^models\.vit\.arch: timm has no vit_of_tomorrow"),
        ({"arch_options": {"patch_size": 7}}, r"^models\.vit\.arch_options: "),
        ({"weights": "nowhere/vit.pth"}, r"^models\.vit\.weights: nowhere/vit\.pth: no such file"),
    ],
)
def test_errors_name_the_key_at_fault(changes, message, prepared):
    with pytest.raises(StudyError, match=message):
        fit(prepared, "run", **changes)


def test_schedule_rises_in_a_line_and_falls_in_a_half_cosine():
    assert [schedule(step, 4, 12) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert schedule(8, 4, 12) == pytest.approx(0.5)
    assert schedule(11, 4, 12) == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert schedule(0, 0, 10) == 1.0


def test_class_weights_by_hand(prepared):
    # 14 training images in 3 classes of 8, 4 and 2: 14 / (3 * 8), 14 / (3 * 4), 14 / (3 * 2)
    np.testing.assert_allclose(class_weights(load_prepared(prepared)), [7 / 12, 7 / 6, 7 / 3])


def test_sampling_draws_each_class_equally_often(prepared):
    data = load_prepared(prepared)
    drawn = np.concatenate([epoch_order(data, "sampling", seed) for seed in range(300)])
    shares = np.bincount(labels_of(data, drawn)) / len(drawn)
    assert set(drawn) == set(data.rows("train"))
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)


@pytest.mark.parametrize("class_balance", ["loss", "none"])
def test_without_sampling_every_image_comes_once(class_balance, prepared):
    data = load_prepared(prepared)
    order = epoch_order(data, class_balance, seed=1)
    assert sorted(order) == list(data.rows("train"))
    assert list(order) != list(epoch_order(data, class_balance, seed=2))


def test_one_axis_parameters_do_not_decay():
    decayed, others = build_optimizer(build("deit"), 1e-3, 0.05).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert min(parameter.ndim for parameter in decayed["params"]) == 2


def test_the_first_of_equally_good_epochs_is_the_best():
    course, model = Course("validation_macro_f1"), torch.nn.Linear(1, 1)
    for epoch, macro_f1 in enumerate((0.5, 0.7, 0.7), start=1):
        torch.nn.init.constant_(model.weight, epoch)
        course.add(EpochRow(epoch, 1e-3, 1.0, {"validation_macro_f1": macro_f1}), model)
    assert course.kept.epoch == 2
    assert course.kept_weights["weight"].item() == 2


def test_without_a_watched_measure_the_last_epoch_is_kept():
    course, model = Course(None), torch.nn.Linear(1, 1)
    for epoch in (1, 2, 3):
        torch.nn.init.constant_(model.weight, epoch)
        course.add(EpochRow(epoch, 1e-3, 1.0, {"knn_accuracy": 1 / epoch}), model)
    assert course.kept.epoch == course.kept_weights["weight"].item() == 3


def test_the_epoch_line():
    row = EpochRow(7, 1e-3, 0.912, {"validation_loss": 0.8, "validation_macro_f1": 0.704})
    assert epoch_line(Course("validation_macro_f1", [row]), 30, 4.1) == (
        "epoch 7/30  loss 0.91  validation loss 0.80  validation macro f1 0.70  best 0.70 @7  4.1 s  left 1 min 34 s"
    )


@pytest.mark.parametrize(("seconds", "text"), [(9.6, "10 s"), (60.0, "1 min 0 s"), (7500.0, "2 h 5 min")])
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text
