"""The registry: every method on every family it does not refuse, from one pass."""

import pytest
import torch

from pipeline import explain
from pipeline.errors import StudyError
from pipeline.explain import METHODS, check_methods, explain_batch
from pipeline.explain.gradcam import gradcam
from pipeline.explain.rollout import RolloutSettings, gradient_rollout
from pipeline.models.family import family_of
from tests.explain.tiny import FAMILIES, TARGETS, build, captured_of, draw_images

SETTINGS = RolloutSettings("corrected", 0.9)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("key", FAMILIES)
def test_every_method_gives_finite_maps_that_are_not_blank(name, key):
    captured = captured_of(key)
    if explain.get(name).refusal(captured.family, SETTINGS):
        pytest.skip("not for this family")
    maps = explain.get(name).attribute(captured, SETTINGS)
    assert len(maps) == 3
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()
    assert (maps.amax(dim=(1, 2)) > 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_map_depends_on_its_target(name):
    classifier = build("vit")
    images = draw_images(classifier)
    one, other = (explain_batch(classifier, images, torch.full((3,), c), [name], SETTINGS)[name] for c in (0, 1))
    assert not torch.allclose(one, other)


def test_all_methods_come_from_one_forward_pass():
    classifier, passes = build("swin"), []
    classifier.register_forward_hook(lambda *_: passes.append(1))
    images = draw_images(classifier)
    maps = explain_batch(classifier, images, TARGETS, list(METHODS), SETTINGS)
    assert len(passes) == 1
    captured = captured_of("swin")
    assert torch.equal(maps["gradcam"], gradcam(captured))
    assert torch.equal(maps["gradient_rollout"], gradient_rollout(captured, SETTINGS))


def test_an_unknown_method_is_refused_with_the_known():
    with pytest.raises(StudyError, match=r"unknown method lime; choose from gradcam, gradient_rollout"):
        explain.get("lime")


def test_a_method_that_does_not_fit_is_refused_before_anything_runs():
    compat = RolloutSettings("compat_vit_explain", 0.9)
    with pytest.raises(StudyError, match=r"gradient_rollout cannot explain this Swin: .*choose rollout_mode corrected"):
        check_methods(["gradcam", "gradient_rollout"], family_of(build("swin").backbone), compat)
