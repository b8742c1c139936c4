"""What capture reads equals plain autograd, image by image, and the model is left as it was found."""

import gc

import pytest
import torch

from pipeline.errors import StudyError
from pipeline.explain.capture import capture
from pipeline.models.family import family_of
from tests.explain.tiny import FAMILIES, TARGETS, build, draw_images

from timm.layers import set_reentrant_ckpt  # isort: skip


def traits(classifier):
    """All that capture touches."""
    return {
        "training": [module.training for module in classifier.modules()],
        "fused": [getattr(module, "fused_attn", None) for module in classifier.modules()],
        "hooks": [len(module._forward_hooks) + len(module._backward_hooks) for module in classifier.modules()],
        "requires_grad": [parameter.requires_grad for parameter in classifier.parameters()],
        "grad": [parameter.grad is None for parameter in classifier.parameters()],
    }


def unusual(classifier):
    """A model in a mixed state, which nobody may tidy up."""
    classifier.train()
    classifier.backbone.patch_embed.eval()
    next(classifier.parameters()).requires_grad_(False)
    classifier.backbone.get_submodule(family_of(classifier.backbone).attention[0]).fused_attn = True
    return classifier


def pushed_logits(classifier, images, attention_module, push):
    """Target logits with something added to one layer's attention."""
    handle = attention_module.attn_drop.register_forward_hook(lambda module, given, out: out + push.flatten(0, 1))
    logits = classifier(images).detach().gather(1, TARGETS[:, None])[:, 0]
    handle.remove()
    return logits


@pytest.mark.parametrize("key", FAMILIES)
def test_logits_are_the_models_own(key):
    classifier = build(key)
    images = draw_images(classifier)
    torch.testing.assert_close(capture(classifier, images, TARGETS).logits, classifier(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("key", FAMILIES)
def test_attention_rows_sum_to_one_and_every_layer_is_seen(key):
    classifier = build(key)
    captured = capture(classifier, draw_images(classifier), TARGETS)
    assert len(captured.attention) == len(captured.attention_gradient) == len(captured.family.attention)
    for attention, gradient in zip(captured.attention, captured.attention_gradient, strict=True):
        torch.testing.assert_close(attention.sum(dim=-1), torch.ones(attention.shape[:-1]))
        assert attention.shape == gradient.shape


@pytest.mark.parametrize("key", FAMILIES)
def test_each_layers_gradient_is_the_slope_of_the_logit_in_its_own_attention(key):
    """Finite differences: add a little to the attention of one layer, see the logit move as the gradient says."""
    classifier = build(key).double()
    images = draw_images(classifier).double()
    captured = capture(classifier, images, TARGETS)
    for layer, name in enumerate(captured.family.attention):
        module = classifier.backbone.get_submodule(name)
        module.fused_attn = False
        push = torch.randn(captured.attention[layer].shape, dtype=torch.float64)
        more, less = (pushed_logits(classifier, images, module, step * push) for step in (1e-5, -1e-5))
        expected = (captured.attention_gradient[layer] * push).flatten(1).sum(dim=1)
        torch.testing.assert_close((more - less) / 2e-5, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", FAMILIES)
def test_a_batch_equals_its_images_one_by_one(key):
    classifier = build(key)
    images = draw_images(classifier)
    together = capture(classifier, images, TARGETS)
    for position in range(3):
        alone = capture(classifier, images[position : position + 1], TARGETS[position : position + 1])
        torch.testing.assert_close(alone.activation_gradient[0], together.activation_gradient[position])
        for one, many in zip(alone.attention_gradient, together.attention_gradient, strict=True):
            torch.testing.assert_close(one[0], many[position], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("key", FAMILIES)
def test_the_model_is_left_as_found(key):
    classifier = unusual(build(key))
    before = traits(classifier)
    capture(classifier, draw_images(classifier), TARGETS)
    assert traits(classifier) == before


def test_the_model_is_left_as_found_after_an_error():
    classifier = unusual(build("vit"))
    before = traits(classifier)
    with pytest.raises(RuntimeError):
        capture(classifier, draw_images(classifier), torch.tensor([0, 1, 99]))
    assert traits(classifier) == before


def test_gradients_already_there_are_kept():
    classifier = build("vit")
    weight = classifier.backbone.head.weight
    weight.grad = torch.ones_like(weight)
    capture(classifier, draw_images(classifier), TARGETS)
    assert torch.equal(weight.grad, torch.ones_like(weight))


def bfloat16():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, bfloat16])
def test_the_callers_context_changes_nothing(context):
    classifier = build("vit")
    images = draw_images(classifier)
    expected = capture(classifier, images, TARGETS)
    with context():
        found = capture(classifier, images.clone(), TARGETS)
    assert torch.equal(found.activation_gradient, expected.activation_gradient)


def test_nothing_captured_holds_the_graph():
    classifier = build("swin")
    captured = capture(classifier, draw_images(classifier), TARGETS)
    assert not any(tensor.requires_grad for tensor in (captured.logits, captured.activation, *captured.attention))


def test_no_tensor_outlives_its_capture():
    classifier, counts = build("swin"), []
    images = draw_images(classifier)
    for _ in range(3):
        capture(classifier, images, TARGETS)
        counts.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))
    assert counts[0] == counts[1] == counts[2]


def test_a_zero_gradient_is_an_error_that_names_the_layer():
    classifier = build("vit")
    torch.nn.init.zeros_(classifier.backbone.head.weight)
    with pytest.raises(StudyError, match=r"no gradient at blocks\.2\.norm1 \(image 0"):
        capture(classifier, draw_images(classifier), TARGETS)


def test_a_number_that_is_not_finite_is_an_error():
    classifier = build("swin")
    images = draw_images(classifier)
    images[1, 0, 0, 0] = torch.nan
    with pytest.raises(StudyError, match="not a finite number"):
        capture(classifier, images, TARGETS)


def test_gradient_checkpointing_changes_nothing():
    classifier = build("vit")
    images = draw_images(classifier)
    expected = capture(classifier, images, TARGETS)
    classifier.backbone.set_grad_checkpointing(True)
    found = capture(classifier, images, TARGETS)
    assert torch.equal(found.activation_gradient, expected.activation_gradient)
    assert all(map(torch.equal, found.attention_gradient, expected.attention_gradient))


def test_checkpointing_that_hides_the_graph_is_an_error():
    classifier = build("vit")
    classifier.backbone.set_grad_checkpointing(True)
    set_reentrant_ckpt(True)
    try:
        with pytest.raises(StudyError, match="gradient checkpointing"):
            capture(classifier, draw_images(classifier), TARGETS)
    finally:
        set_reentrant_ckpt(False)


def test_a_layer_that_never_runs_is_an_error():
    classifier = build("vit")
    classifier.backbone.blocks[1].attn.forward = lambda x, **_: x
    with pytest.raises(StudyError, match=r"no output of blocks\.1\.attn"):
        capture(classifier, draw_images(classifier), TARGETS)
