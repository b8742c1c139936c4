"""The public face: any timm model in, maps out; what it refuses, and what it does not import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import StudyError
from pipeline.explain import METHODS, explain
from pipeline.explain.public import DEFAULTS
from pipeline.params import load_params
from tests.explain.test_capture import traits, unusual
from tests.explain.tiny import FAMILIES, TARGETS, VIT, build, draw_images

import timm  # isort: skip

ROOT = Path(__file__).parents[2]


def plain(**options):
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **{**VIT, "depth": 2, **options})


IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_five_lines_are_enough():
    maps = explain(plain(), IMAGES)
    assert {name: map_.shape for name, map_ in maps.items()} == {
        "gradcam": (3, 4, 4),
        "gradient_rollout": (3, 4, 4),
    }


def test_the_models_own_normalisation_is_applied():
    """timm's ViT takes mean = std = 0.5, so these are the logits that are explained."""
    model = plain()
    predicted = model((IMAGES - 0.5) / 0.5).argmax(dim=1)
    assert torch.equal(explain(model, IMAGES)["gradcam"], explain(model, IMAGES, targets=predicted)["gradcam"])


@pytest.mark.parametrize("key", FAMILIES)
def test_batches_change_nothing(key):
    classifier = build(key)
    images = draw_images(classifier)
    whole, parts = (explain(classifier, images, targets=TARGETS, batch_size=size) for size in (32, 2))
    for name in whole:
        torch.testing.assert_close(whole[name], parts[name], rtol=1e-3, atol=1e-5)


def test_targets_may_be_plain_numbers_and_a_method_a_plain_name():
    model = plain()
    assert torch.equal(
        explain(model, IMAGES, "gradcam", [0, 3, 1])["gradcam"],
        explain(model, IMAGES, ("gradcam",), torch.tensor([0, 3, 1]))["gradcam"],
    )


def test_options_are_those_of_params():
    model = plain()
    usual, other = explain(model, IMAGES), explain(model, IMAGES, cam_layer="blocks.0", head_fusion="max")
    assert not any(torch.allclose(usual[name], other[name]) for name in usual)


def test_the_defaults_are_the_paper_studys():
    paper = load_params(ROOT / "params/paper.yaml").explain
    assert paper.model_dump(include=set(DEFAULTS)) == DEFAULTS


@pytest.mark.parametrize("key", ["vit", "wide_swin_v2", "dinov3"])
def test_a_model_in_train_mode_is_explained_in_evaluation_and_given_back(key):
    classifier = build(key)
    images = draw_images(classifier)
    expected = explain(classifier, images, tuple(METHODS), rise_masks=3, integrated_gradients_steps=2)
    before = traits(unusual(classifier))
    found = explain(classifier, images, tuple(METHODS), rise_masks=3, integrated_gradients_steps=2)
    assert traits(classifier) == before
    for name in METHODS:
        torch.testing.assert_close(found[name], expected[name], msg=name)


def test_a_frozen_model_is_explained_and_no_gradient_is_left():
    model = plain().requires_grad_(False)
    explain(model, IMAGES, tuple(METHODS), rise_masks=2, integrated_gradients_steps=2)
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_an_error_in_the_middle_leaves_the_model_as_found(method):
    classifier = unusual(build("swin"))
    images, before = draw_images(classifier), traits(classifier)
    classifier.backbone.norm.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        explain(classifier, images, method)
    assert traits(classifier) == before


def nan_in_the_second(images):
    images = images.clone()
    images[1, 0, 0, 0] = torch.nan
    return images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images[:, :, :24], r"takes \[n, 3, 32, 32\], these are \[3, 3, 24, 32\]; resize"),
        (lambda images: images[:, :1], r"takes \[n, 3, 32, 32\]"),
        (lambda images: images[0], r"takes \[n, 3, 32, 32\], these are \[3, 32, 32\]"),
        (lambda images: images[:0], r"these are \[0, 3, 32, 32\]"),
        (lambda images: (images * 255).byte(), r"torch.uint8 where floats in \[0, 1\] are wanted; divide by 255"),
        (lambda images: images * 255, r"values from .* where \[0, 1\] is wanted"),
        (lambda images: (images - 0.5) / 0.5, r"do not normalise them"),
        (nan_in_the_second, "image 1 holds a number that is not finite"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_what_to_do(change, message):
    with pytest.raises(StudyError, match=f"images: .*{message}"):
        unchecked(plain(), change(IMAGES))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 1, 5], "5 is no class of this model; choose from 0 to 4"),
        ([0, -1, 2], "-1 is no class"),
        ([0, 1], r"of shape \[2\] where one class number for each of 3 images"),
        (torch.tensor([0.0, 1.0, 2.0]), "torch.float32"),
        (torch.eye(3).long(), r"shape \[3, 3\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(targets, message):
    with pytest.raises(StudyError, match=f"targets: .*{message}"):
        unchecked(plain(), IMAGES, targets=targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["lime"]}, "unknown method lime; choose from gradcam, signed_gradcam"),
        ({"cam_layer": "blocks.7"}, r"explain.cam_layer: this ViT has no layer blocks.7 .*such as blocks.0.norm1"),
        ({"discard_ratio": 1.5}, "options: discard_ratio"),
        ({"colour": "red"}, "options: colour"),
        ({"batch_size": 0}, "batch_size: 0"),
    ],
)
def test_other_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(StudyError, match=message):
        explain(plain(), IMAGES, **arguments)


def test_a_model_that_is_no_transformer_of_timm_is_refused():
    with pytest.raises(StudyError, match="ResNet cannot be explained"):
        explain(timm.create_model("resnet10t"), torch.rand(1, 3, 176, 176))
    with pytest.raises(StudyError, match="Linear has no pretrained_cfg"):
        explain(torch.nn.Linear(1, 1), IMAGES)


def unchecked(model, images, **arguments):
    """`explain` as outside of these tests, where nothing checks the shapes in its signature."""
    return getattr(explain, "__wrapped__", explain)(model, images, **arguments)


@pytest.mark.slow
def test_no_scheduler_tracker_or_cache_is_imported():
    code = "import sys, pipeline.explain; print({'mlflow', 'prefect', 'dvc', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
