"""Mode compat_vit_explain against that script, written again with its hooks and defects."""

import numpy as np
import pytest
import torch

from pipeline.explain.capture import capture
from pipeline.explain.rollout import gradient_rollout, rollout_refusal
from pipeline.models.family import family_of
from tests.explain.tiny import PARAMS, TARGETS, build, captured_of, draw_images, params

COMPAT = params(rollout_mode="compat_vit_explain")


def vit_explain(classifier, image, target, discard_ratio):
    """vit_grad_rollout.py written again from its description, hooks and defects as there; for one image."""
    attentions, gradients, handles = [], [], []
    for name, module in classifier.named_modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        if "attn_drop" in name:
            handles.append(module.register_forward_hook(lambda m, i, out: attentions.append(out.detach())))
            handles.append(module.register_backward_hook(lambda m, given, out: gradients.append(given[0])))
    classifier(image)[0, target].backward()
    for handle in handles:
        handle.remove()
    result = torch.eye(attentions[0].shape[-1])
    for attention, gradient in zip(attentions, gradients, strict=True):  # gradients arrive last layer first
        fused = (attention * gradient).mean(dim=1)
        fused[fused < 0] = 0
        flat = fused.view(1, -1)
        flat[0, flat.topk(int(flat.shape[1] * discard_ratio), -1, False).indices] = 0
        a = (fused + torch.eye(fused.shape[-1])) / 2
        result = (a / a.sum(dim=-1)) @ result
    mask = result[0, 0, 1:].numpy()
    side = int(mask.size**0.5)
    return mask.reshape(side, side) / np.max(mask)


@pytest.mark.parametrize("ratio", [0.0, 0.9])
def test_compat_equals_vit_explain(ratio):
    classifier = build("vit")
    images = draw_images(classifier)
    found = gradient_rollout(
        capture(classifier, images, TARGETS), params(rollout_mode="compat_vit_explain", discard_ratio=ratio)
    )
    for i in range(3):
        expected = vit_explain(classifier, images[i : i + 1], TARGETS[i], ratio)
        np.testing.assert_allclose(found[i].numpy(), expected, atol=1e-5)


def test_corrected_differs_from_vit_explain():
    captured = captured_of("vit")
    corrected = gradient_rollout(captured, PARAMS)
    compat = gradient_rollout(captured, COMPAT)
    assert (corrected / corrected.amax(dim=(1, 2), keepdim=True) - compat).abs().max() > 0.05


@pytest.mark.parametrize("key", ["wide_vit", "averaged_vit", "distilled", "registers", "swin"])
def test_compat_is_refused_where_the_script_does_not_apply(key):
    assert "class token" in rollout_refusal(family_of(build(key).backbone), COMPAT)


@pytest.mark.parametrize("change", [{"head_fusion": "max"}, {"residual_scaling": "rowsum"}])
def test_compat_is_refused_with_settings_that_the_script_has_not(change):
    settings = params(rollout_mode="compat_vit_explain", **change)
    assert "residual_scaling none" in rollout_refusal(family_of(build("vit").backbone), settings)
