"""The registry: every method on every family, most of them from one pass, and batches that change nothing."""

import pytest
import torch

from pipeline import explain
from pipeline.errors import StudyError
from pipeline.explain import METHODS, check_methods, explain_batch
from pipeline.explain.gradcam import gradcam
from pipeline.explain.registry import Question
from pipeline.explain.rollout import gradient_rollout
from pipeline.models.family import family_of
from tests.explain.tiny import FAMILIES, PARAMS, TARGETS, build, captured_of, draw_images, params

import timm  # isort: skip

pytestmark = pytest.mark.slow

OWN_PASSES = ("legrad", "integrated_gradients", "rise")
ONE_PASS = tuple(name for name in METHODS if name not in OWN_PASSES)
SIGNED = ("signed_gradcam", "integrated_gradients")
BLIND_TO_TARGETS = ("attention_rollout", "raw_attention")
ALL = tuple(METHODS)


@pytest.mark.parametrize("key", FAMILIES)
def test_every_method_gives_finite_maps_that_are_not_blank(key):
    classifier = build(key)
    check_methods(ALL, family_of(classifier.backbone), PARAMS)
    for name, maps in explain_batch(classifier, draw_images(classifier), TARGETS, ALL, PARAMS).items():
        assert len(maps) == 3, name
        assert torch.isfinite(maps).all(), name
        assert name in SIGNED or (maps >= 0).all(), name
        assert (maps.abs().amax(dim=(1, 2)) > 0).all(), name


@pytest.mark.parametrize("key", FAMILIES)
def test_a_batch_equals_its_images_one_by_one(key):
    classifier = build(key)
    images = draw_images(classifier)
    together = explain_batch(classifier, images, TARGETS, ALL, PARAMS)
    for i in range(3):
        alone = explain_batch(classifier, images[i : i + 1], TARGETS[i : i + 1], ALL, PARAMS)
        for name in ALL:
            torch.testing.assert_close(alone[name][0], together[name][i], atol=2e-5, rtol=1e-3, msg=name)


def test_a_map_depends_on_its_target_where_its_method_knows_of_targets():
    classifier = build("vit")
    images = draw_images(classifier)
    one, other = (explain_batch(classifier, images, torch.full((3,), c), ALL, PARAMS) for c in (0, 1))
    assert [name for name in ALL if torch.equal(one[name], other[name])] == list(BLIND_TO_TARGETS)


def test_most_methods_come_from_one_forward_pass():
    classifier, passes = build("swin"), []
    classifier.register_forward_hook(lambda *_: passes.append(1))
    images = draw_images(classifier)
    maps = explain_batch(classifier, images, TARGETS, ONE_PASS, PARAMS)
    assert len(passes) == 1
    captured = captured_of("swin")
    assert torch.equal(maps["gradcam"], gradcam(captured))
    assert torch.equal(maps["gradient_rollout"], gradient_rollout(captured, PARAMS))


@pytest.mark.parametrize(("name", "count"), [("legrad", 1), ("integrated_gradients", 4), ("rise", 8)])
def test_a_pass_is_run_only_for_the_method_that_needs_it(name, count):
    classifier, passes = build("vit"), []
    classifier.register_forward_hook(lambda *_: passes.append(1))
    explain_batch(classifier, draw_images(classifier), TARGETS, [name], PARAMS)
    assert len(passes) == count


def test_the_predicted_classes_are_explained_where_none_is_named():
    classifier = build("wide_swin")
    images = draw_images(classifier)
    predicted = classifier(images).argmax(dim=1)
    assert torch.equal(Question(classifier, images, None, PARAMS).targets, predicted)
    named, unnamed = (explain_batch(classifier, images, targets, ALL, PARAMS) for targets in (predicted, None))
    assert all(torch.equal(named[name], unnamed[name]) for name in ALL)


def test_an_unknown_method_is_refused_with_the_known():
    with pytest.raises(StudyError, match=r"unknown method lime; choose from gradcam, signed_gradcam, .*rise"):
        explain.get("lime")


def test_a_method_that_does_not_fit_is_refused_before_anything_runs():
    compat = params(rollout_mode="compat_vit_explain")
    with pytest.raises(StudyError, match=r"gradient_rollout cannot explain this Swin: .*choose rollout_mode corrected"):
        check_methods(["gradcam", "gradient_rollout"], family_of(build("swin").backbone), compat)


def test_a_swin_that_pads_keeps_the_methods_that_carry_nothing_through_windows():
    options = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "img_size": 96, "window_size": 5}
    family = family_of(timm.create_model("swin_tiny_patch4_window7_224", **options))
    refused = [name for name in ALL if METHODS[name].refusal(family, PARAMS)]
    assert refused == [name for name in ALL if "rollout" in name or name in ("chefer", "raw_attention", "legrad")]
