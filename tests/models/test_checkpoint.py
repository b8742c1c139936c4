"""A checkpoint gives back the model it was made from, and a damaged one is refused by name."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import StudyError
from pipeline.models.checkpoint import HEADER_KEY, CheckpointDescription, load_checkpoint, save_checkpoint
from tests.models.tiny import ARCHITECTURES, MODELS, SIDE_PX, build, draw_images

HALF = (0.5, 0.5, 0.5)


def describe(model):
    arch, options = ARCHITECTURES[model]
    return CheckpointDescription(
        arch=arch,
        arch_options=options,
        weights="none",
        classes=("a", "b", "c"),
        image_size_px=SIDE_PX,
        mean=HALF,
        std=HALF,
    )


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(build("vit"), describe("vit"), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={HEADER_KEY: describe("vit").model_dump_json()})


@pytest.mark.parametrize("model", MODELS)
def test_equal_logits_after_saving_and_loading(model, tmp_path):
    classifier, images = build(model, seed=5), draw_images()
    classifier.mean += 0.1  # travels with the tensors
    save_checkpoint(classifier, describe(model), tmp_path / "model.safetensors")
    loaded, description = load_checkpoint(tmp_path / "model.safetensors")
    assert not loaded.training
    assert description == describe(model)
    assert torch.equal(loaded(images), classifier.eval()(images))


def test_equal_models_give_equal_bytes(checkpoint, tmp_path):
    save_checkpoint(build("vit"), describe("vit"), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == checkpoint.read_bytes()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"model\.safetensors: no such file"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("length", [0, 5, 2000, -1])
def test_a_cut_file_is_refused(checkpoint, length):
    checkpoint.write_bytes(checkpoint.read_bytes()[:length])
    with pytest.raises(StudyError, match="damaged"):
        load_checkpoint(checkpoint)


def test_a_foreign_file_is_refused(checkpoint):
    save_file({"weight": torch.ones(1)}, checkpoint)
    with pytest.raises(StudyError, match="no description of ours"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("backbone.cls_token"), r"backbone\.cls_token is missing"),
        (lambda tensors: tensors.update(extra=torch.ones(1)), "extra is surplus"),
        (lambda tensors: tensors.update(mean=torch.ones(3)), r"mean is \(3,\), not \(1, 3, 1, 1\)"),
        (lambda tensors: tensors["std"].fill_(torch.nan), "std is not finite"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(checkpoint, change, message):
    rewrite(checkpoint, change)
    with pytest.raises(StudyError, match=message):
        load_checkpoint(checkpoint)


def test_a_model_that_cannot_be_built_is_refused(checkpoint):
    described = describe("vit").model_copy(update={"arch": "vit_of_tomorrow"})
    save_file(load_file(checkpoint), checkpoint, metadata={HEADER_KEY: described.model_dump_json()})
    with pytest.raises(StudyError, match="cannot be built: arch: timm has no vit_of_tomorrow"):
        load_checkpoint(checkpoint)
