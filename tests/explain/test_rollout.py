"""The corrected rollout: a carried vector against full matrix products, conservation, batches, discarding."""

from dataclasses import replace

import pytest
import torch

from pipeline.explain import rollout
from pipeline.explain.capture import capture
from pipeline.explain.rollout import RolloutSettings, carry_back, gradient_rollout, rollout_refusal
from pipeline.models.family import Windows, family_of
from tests.explain.tiny import FAMILIES, TARGETS, build, captured_of, draw_images

CORRECTED = RolloutSettings("corrected", 0.9)
COMPAT = RolloutSettings("compat_vit_explain", 0.9)
VITS = [key for key in FAMILIES if "swin" not in key]


def layer_matrix(attention, gradient, discard_ratio):
    """norm(E + I) of one image and layer, by sorting; attention is [head, token, token]."""
    relevance = (attention * gradient).mean(dim=0).clamp(min=0)
    threshold = relevance.flatten().sort().values[int(relevance.numel() * discard_ratio)]
    relevance = torch.where(relevance >= threshold, relevance, 0.0)
    matrix = relevance + torch.eye(len(relevance))
    return matrix / matrix.sum(dim=1, keepdim=True)


READ = {
    "vit": {0: 1.0},
    "wide_vit": {0: 1.0},
    "registers": {0: 1.0},
    "distilled": {0: 0.5, 1: 0.5},
    "averaged_vit": {token: 1 / 16 for token in range(1, 17)},
}


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("key", VITS)
def test_the_carried_vector_is_the_row_of_the_full_product(key, ratio):
    captured = captured_of(key)
    maps = gradient_rollout(captured, RolloutSettings("corrected", ratio))
    for image in range(3):
        product = torch.eye(captured.attention[0].shape[-1])
        for attention, gradient in zip(captured.attention, captured.attention_gradient, strict=True):
            product = layer_matrix(attention[image, 0], gradient[image, 0], ratio) @ product
        row = sum(weight * product[token] for token, weight in READ[key].items())
        torch.testing.assert_close(maps[image].flatten(), row[captured.family.num_prefix_tokens :], atol=1e-6, rtol=0)


def test_a_two_token_rollout_by_hand():
    """E = [[0, 1], [3, 0]], so norm(E + I) = [[1/2, 1/2], [3/4, 1/4]]: token 0 gives (1/2, 1/2), then (5/8, 3/8)."""
    relevance = torch.tensor([[[[0.0, 1.0], [3.0, 0.0]]]])
    place = Windows((1, 2), (1, 2), (0, 0))
    found = carry_back(torch.tensor([[[1.0, 0.0]]]), [relevance] * 2, [place] * 2)
    assert found.tolist() == [[[0.625, 0.375]]]


def test_each_layers_attention_meets_its_own_gradient():
    """Only one layer has a gradient; the map then depends on that layer's attention and on no other's."""
    captured = captured_of("vit")
    zero = torch.zeros_like(captured.attention_gradient[0])
    for layer in range(3):
        lonely = replace(captured, attention_gradient=tuple(zero if i != layer else zero + 1 for i in range(3)))
        attention = list(captured.attention)
        expected = gradient_rollout(lonely, CORRECTED)
        shuffled = replace(lonely, attention=tuple(a if i == layer else a.flip(-1) for i, a in enumerate(attention)))
        assert torch.equal(gradient_rollout(shuffled, CORRECTED), expected)
        attention[layer] = attention[layer].flip(-1)
        assert not torch.equal(gradient_rollout(replace(lonely, attention=tuple(attention)), CORRECTED), expected)


@pytest.mark.parametrize("key", FAMILIES)
def test_relevance_is_conserved(key):
    """What the readout starts with reaches the first layer's tokens; a map lacks only what prefix tokens keep."""
    captured = captured_of(key)
    layers = zip(captured.attention, captured.attention_gradient, strict=True)
    relevance = [(attention * gradient).mean(dim=2).clamp(min=0) * 100 for attention, gradient in layers]
    start = torch.rand(3, *captured.family.windows[-1].grid)
    carried = carry_back(start, relevance, captured.family.windows)
    torch.testing.assert_close(carried.sum(dim=(1, 2)), start.sum(dim=(1, 2)))
    total = gradient_rollout(captured, CORRECTED).sum(dim=(1, 2))
    assert (total <= 1 + 1e-6).all()
    if captured.family.num_prefix_tokens == 0:
        torch.testing.assert_close(total, torch.ones(3))


@pytest.mark.parametrize("key", FAMILIES)
@pytest.mark.parametrize("settings", [CORRECTED, COMPAT], ids=lambda settings: settings.mode)
def test_a_batch_equals_its_images_one_by_one(key, settings):
    if rollout_refusal(family_of(build(key).backbone), settings):
        pytest.skip("not for this family")
    classifier = build(key)
    images = draw_images(classifier)
    together = gradient_rollout(capture(classifier, images, TARGETS), settings)
    for i in range(3):
        alone = gradient_rollout(capture(classifier, images[i : i + 1], TARGETS[i : i + 1]), settings)
        torch.testing.assert_close(alone[0], together[i], atol=1e-6, rtol=1e-4)


def test_discarding_is_per_image():
    """Half of each image's entries go, though the second image is a hundred times larger."""
    relevance = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[400.0, 300.0], [200.0, 100.0]]]])
    found = rollout._discard(relevance, 0.5)
    assert found.flatten(1).tolist() == [[0.0, 0.0, 3.0, 4.0], [400.0, 300.0, 0.0, 0.0]]


@pytest.mark.parametrize("key", FAMILIES)
def test_the_studys_families_are_not_refused(key):
    assert rollout_refusal(family_of(build(key).backbone), CORRECTED) is None
