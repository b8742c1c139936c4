"""A pre-training whole: every strategy learns, a killed one ends with the same bytes, and its weights load anywhere."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models.weights import load_weights
from pipeline.params import ModelParams, Params, StrategyName, load_params
from pipeline.pretraining.pretrain import STRATEGIES, pretrain_model
from pipeline.pretraining.sources import prepare_sources
from pipeline.records import PretrainingReceipt
from tests.models.tiny import ARCHITECTURES, build
from tests.pretraining.test_dino import PARAMS as DINO
from tests.pretraining.test_distilled import PARAMS as DISTILLED

pytestmark = pytest.mark.slow

EMBEDDED = load_params(Path(__file__).parents[2] / "params.yaml")
WHO_LEARNS_HOW = [("vit", "supervised"), ("deit", "distilled"), ("dino", "dino"), ("swin", "supervised"),
                  ("swin", "dino"), ("deit", "dino"), ("deit", "supervised")]  # fmt: skip


class Killed(Exception):
    pass


def params_of(model="vit", strategy="supervised", sources=None, **recipe) -> Params:
    """The embedded study at 32 px with 20 phantoms per class and two epochs of everything."""
    own = EMBEDDED.pretraining
    supervised = own.supervised.model_copy(update={"epochs": 2, "batch_size": 16, **recipe})
    pretraining = own.model_copy(
        update={
            "sources": sources or {"busi": "phantom"},
            "images_per_class": {"busi": 20},
            "strategies": {model: strategy},
            "supervised": supervised,
            "distilled": DISTILLED.model_copy(update={"batch_size": 16, **recipe}),
            "dino": DINO.model_copy(update={"batch_size": 16, **recipe}),
        }
    )
    arch, options = ARCHITECTURES[model]
    plan = ModelParams(arch=arch, arch_options=options, weights="none", learning_rate=1e-3)
    preprocess = EMBEDDED.preprocess.model_copy(update={"image_size_px": 32})
    phantom = EMBEDDED.phantom.model_copy(update={"busi": EMBEDDED.phantom.busi.model_copy(update={"width_px": 64})})
    study = EMBEDDED.study.model_copy(update={"device": "cpu"})
    return EMBEDDED.model_copy(
        update={
            "study": study, "pretraining": pretraining, "models": {model: plan}, "preprocess": preprocess,
            "phantom": phantom,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def busi(tmp_path_factory):
    return prepare_sources(params_of(), tmp_path_factory.mktemp("corpus"), lambda done, total: None)


def pretrain(params, prepared, folder, kill_after=None) -> Path:
    """The weights; the state of a killed run lies beside them."""

    def progress(done, total):
        if done == kill_after:
            raise Killed

    (model,) = params.models
    weights = folder / f"{model}.safetensors"
    pretrain_model(model, params, prepared, weights, folder / "state", progress)
    return weights


@pytest.mark.parametrize(("model", "strategy"), WHO_LEARNS_HOW)
def test_every_strategy_learns_and_says_what_it_did(model, strategy, busi, tmp_path):
    weights = pretrain(params_of(model, strategy), busi, tmp_path)
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    assert receipt.checkpoint_sha256 == sha256_of(weights)
    assert (receipt.strategy, receipt.labels) == (strategy, "none" if strategy == "dino" else "classes")
    assert [row["epoch"] for row in receipt.history] == [1, 2]
    assert receipt.images["busi"]["train"] > receipt.images["busi"]["test"] > 0
    assert set(receipt.probes["busi"]) == {"knn_accuracy", "linear_probe_accuracy", "chance"}
    assert receipt.probes["busi"]["chance"] == pytest.approx(1 / 3)
    assert not (tmp_path / "state").exists()
    card = weights.with_suffix(".md").read_text()
    assert "Phantoms are not patients" in card
    assert receipt.checkpoint_sha256 in card


@pytest.mark.parametrize(("model", "strategy"), WHO_LEARNS_HOW)
def test_the_weights_load_through_the_one_loading_function(model, strategy, busi, tmp_path):
    weights = pretrain(params_of(model, strategy), busi, tmp_path)
    state, loaded = load_file(weights), build(model, weights=str(weights)).backbone.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert not any(name.startswith("head") for name in state)
    assert all(torch.equal(loaded[name], tensor.float()) for name, tensor in state.items())
    assert {name for name in loaded if not name.startswith("head")} == set(state)


@pytest.mark.parametrize(("model", "strategy"), WHO_LEARNS_HOW[:5])
def test_a_killed_pretraining_ends_with_the_bytes_of_an_uninterrupted_one(model, strategy, busi, tmp_path):
    params = params_of(model, strategy)
    whole = pretrain(params, busi, tmp_path / "whole")
    with pytest.raises(Killed):
        pretrain(params, busi, tmp_path / "killed", kill_after=1)
    assert not (tmp_path / "killed" / whole.name).exists()
    resumed = pretrain(params, busi, tmp_path / "killed")
    for suffix in (".safetensors", ".json", ".md"):
        assert whole.with_suffix(suffix).read_bytes() == resumed.with_suffix(suffix).read_bytes(), suffix


def test_supervised_pretraining_lowers_its_loss(busi, tmp_path):
    weights = pretrain(params_of(epochs=8, learning_rate=3e-3), busi, tmp_path)
    history = PretrainingReceipt.read_from(weights.with_suffix(".json")).history
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_bf16_is_told_in_the_receipt(busi, tmp_path):
    weights = pretrain(params_of("dino", "dino", precision="bf16"), busi, tmp_path)
    assert PretrainingReceipt.read_from(weights.with_suffix(".json")).precision == "bf16"


@pytest.mark.slow
def test_loader_processes_change_nothing(busi, tmp_path):
    alone, helped = (
        pretrain(params_of("dino", "dino", workers=number), busi, tmp_path / str(number)) for number in (0, 2)
    )
    assert sha256_of(alone) == sha256_of(helped)


def test_a_file_that_is_not_the_receipts_is_refused(busi, tmp_path):
    weights = pretrain(params_of(), busi, tmp_path)
    state = load_file(weights)
    save_file({name: tensor + 1 for name, tensor in state.items()}, weights)
    with pytest.raises(
        StudyError, match=r"weights: .*vit\.safetensors: damaged or exchanged: not the file of vit\.json"
    ):
        load_weights(build("vit").backbone, ARCHITECTURES["vit"][0], str(weights))


def test_weights_of_another_model_are_refused_with_the_tensor(busi, tmp_path):
    weights = pretrain(params_of(), busi, tmp_path)
    with pytest.raises(StudyError, match=r"of another model: pos_embed"):
        build("deit", weights=str(weights))


@pytest.mark.parametrize(
    ("model", "strategy", "recipe", "message"),
    [
        ("vit", "supervised", {"learning_rate": 1e30}, r"^pretraining\.supervised\.learning_rate: the loss is nan"),
        ("dino", "dino", {"learning_rate": 1e30}, r"^pretraining\.dino\.learning_rate: the loss is nan"),
        ("vit", "distilled", {}, r"^models\.vit\.arch: .* has no distillation token"),
        ("dino", "dino", {"teacher_temperature": 1e6}, r"^pretraining\.dino: collapsed in epoch 2"),
    ],
)
def test_errors_name_the_key_and_write_nothing(model, strategy, recipe, message, busi, tmp_path):
    params = params_of(model, strategy)
    section = getattr(params.pretraining, strategy).model_copy(update=recipe)
    params = params.model_copy(update={"pretraining": params.pretraining.model_copy(update={strategy: section})})
    with pytest.raises(StudyError, match=message):
        pretrain(params, busi, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_the_names_that_params_allow_are_those_of_the_registry():
    assert set(get_args(StrategyName)) == set(STRATEGIES)
