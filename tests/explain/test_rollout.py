"""The corrected rollout: a carried vector against full matrix products, conservation, batches, discarding."""

from dataclasses import replace

import pytest
import torch

from pipeline.explain.capture import capture
from pipeline.explain.carry import carry_back, without_lowest
from pipeline.explain.rollout import gradient_rollout, rollout_refusal
from pipeline.models.family import Windows, family_of
from tests.explain.tiny import FAMILIES, PARAMS, TARGETS, build, captured_of, draw_images, params

COMPAT = params(rollout_mode="compat_vit_explain")
VITS = [key for key in FAMILIES if "swin" not in key]


def layer_matrix(attention, gradient, discard_ratio, fuse=lambda heads: heads.mean(dim=0)):
    """norm(E + I) of one image and layer, by sorting; attention is [head, token, token]."""
    relevance = fuse(attention * gradient).clamp(min=0)
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
    "dinov2": {0: 1.0},
    "dinov3": {0: 1.0},
    "averaged_dinov3": {token: 1 / 24 for token in range(5, 29)},
}


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("key", VITS)
def test_the_carried_vector_is_the_row_of_the_full_product(key, ratio):
    captured = captured_of(key)
    maps = gradient_rollout(captured, params(discard_ratio=ratio))
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
        expected = gradient_rollout(lonely, PARAMS)
        shuffled = replace(lonely, attention=tuple(a if i == layer else a.flip(-1) for i, a in enumerate(attention)))
        assert torch.equal(gradient_rollout(shuffled, PARAMS), expected)
        attention[layer] = attention[layer].flip(-1)
        assert not torch.equal(gradient_rollout(replace(lonely, attention=tuple(attention)), PARAMS), expected)


@pytest.mark.parametrize("key", FAMILIES)
def test_relevance_is_conserved(key):
    """What the readout starts with reaches the first layer's tokens; a map lacks only what prefix tokens keep."""
    captured = captured_of(key)
    layers = zip(captured.attention, captured.attention_gradient, strict=True)
    relevance = [(attention * gradient).mean(dim=2).clamp(min=0) * 100 for attention, gradient in layers]
    start = torch.rand(3, *captured.family.windows[-1].grid)
    carried = carry_back(start, relevance, captured.family.windows)
    torch.testing.assert_close(carried.sum(dim=(1, 2)), start.sum(dim=(1, 2)))
    total = gradient_rollout(captured, PARAMS).sum(dim=(1, 2))
    assert (total <= 1 + 1e-6).all()
    if captured.family.num_prefix_tokens == 0:
        torch.testing.assert_close(total, torch.ones(3))


@pytest.mark.parametrize("key", FAMILIES)
@pytest.mark.parametrize("settings", [PARAMS, COMPAT], ids=lambda settings: settings.rollout_mode)
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
    found = without_lowest(relevance, 0.5)
    assert found.flatten(1).tolist() == [[0.0, 0.0, 3.0, 4.0], [400.0, 300.0, 0.0, 0.0]]


@pytest.mark.parametrize("key", FAMILIES)
def test_the_studys_families_are_not_refused(key):
    assert rollout_refusal(family_of(build(key).backbone), PARAMS) is None


@pytest.mark.parametrize(
    ("fusion", "fuse"),
    [("max", lambda heads: heads.max(dim=0).values), ("min", lambda heads: heads.min(dim=0).values)],
)
def test_heads_are_fused_as_asked(fusion, fuse):
    captured = captured_of("vit")
    maps = gradient_rollout(captured, params(head_fusion=fusion, discard_ratio=0.0))
    product = torch.eye(17)
    for attention, gradient in zip(captured.attention, captured.attention_gradient, strict=True):
        product = layer_matrix(attention[0, 0], gradient[0, 0], 0.0, fuse) @ product
    torch.testing.assert_close(maps[0].flatten(), product[0, 1:])


@pytest.mark.parametrize("key", ["vit", "swin", "wide_swin_v2"])
def test_scaled_rows_do_not_know_the_logits_scale(key):
    captured = captured_of(key)
    louder = replace(captured, attention_gradient=tuple(100 * gradient for gradient in captured.attention_gradient))
    for scaling, same in (("rowsum", True), ("none", False)):
        one, other = (gradient_rollout(seen, params(residual_scaling=scaling)) for seen in (captured, louder))
        assert torch.allclose(one, other, atol=1e-6) is same


def test_scaled_rows_keep_half():
    """Two tokens, E = [[0, 4], [0, 0]]: the first token keeps a half and gives a half, an empty row keeps all."""
    captured = captured_of("vit")
    attention = torch.zeros(3, 1, 3, 17, 17)
    attention[..., 0, 5] = 4
    ones = torch.ones_like(attention)
    last = replace(captured, attention=(attention,), attention_gradient=(ones,), family=one_layer(captured.family))
    found = gradient_rollout(last, params(residual_scaling="rowsum"))[0].flatten()
    assert found.nonzero().tolist() == [[4]]
    assert found[4] == 0.5


def one_layer(family):
    return replace(family, attention=family.attention[-1:], windows=family.windows[-1:])
