"""Rollouts of other kinds: each against its paper's full matrices, and what defines the CAM rollout."""

from dataclasses import replace

import pytest
import torch

from pipeline.explain.capture import capture
from pipeline.explain.carry import carry_back
from pipeline.explain.gradcam import gradcam
from pipeline.explain.rollout import attention_rollout, cam_rollout, chefer, gradient_rollout, raw_attention
from pipeline.models.family import family_of
from tests.explain.test_swin_rollout import dense_merge, window_members
from tests.explain.tiny import FAMILIES, PARAMS, TARGETS, build, captured_of, draw_images, params

SWINS = [key for key in FAMILIES if "swin" in key]
LARGE = 50  # against the identity, so that several layers matter


def over_all_tokens(layer, place):
    """One image's window matrices as one matrix over all tokens."""
    matrix = torch.zeros(place.grid[0] * place.grid[1], place.grid[0] * place.grid[1])
    for window, members in zip(layer, window_members(place), strict=True):
        matrix[torch.tensor(members)[:, None], torch.tensor(members)[None, :]] = window
    return matrix


def positive(attention, gradient):
    return (attention * gradient).clamp(min=0)


def product(captured, image, layer_matrix, fuse):
    """R over all layers and tokens, read by the head; `fuse` makes E of attention and gradient [head, token, token]."""
    family, relevance = captured.family, None
    pairs = zip(captured.attention, captured.attention_gradient, family.windows, strict=True)
    for attention, gradient, place in pairs:
        tokens = place.grid[0] * place.grid[1]
        relevance = torch.eye(tokens) if relevance is None else relevance
        if len(relevance) != tokens:
            relevance = dense_merge(place.grid).float() @ relevance
        windows = [fuse(a, g) for a, g in zip(attention[image], gradient[image], strict=True)]
        relevance = layer_matrix(over_all_tokens(windows, place), relevance)
    first, stop = family.read_tokens
    return relevance[first:stop].mean(dim=0)[family.num_prefix_tokens :]


@pytest.mark.parametrize("key", FAMILIES)
def test_chefer_adds_each_layers_relevance(key):
    captured = captured_of(key)
    louder = replace(captured, attention_gradient=tuple(LARGE * gradient for gradient in captured.attention_gradient))
    expected = product(louder, 1, lambda e, r: r + e @ r, lambda a, g: sum(map(positive, a, g)) / len(a))
    torch.testing.assert_close(chefer(louder)[1].flatten(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("key", FAMILIES)
def test_attention_rollout_multiplies_half_attention_half_identity(key):
    captured = captured_of(key)
    expected = product(captured, 1, lambda a, r: (a @ r + r) / 2, lambda a, g: a.mean(dim=0))
    torch.testing.assert_close(attention_rollout(captured)[1].flatten(), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("key", ["vit", "registers"])
def test_raw_attention_is_the_class_tokens_last_row(key):
    captured = captured_of(key)
    row = captured.attention[-1][:, 0].mean(dim=1)[:, 0, captured.family.num_prefix_tokens :]
    torch.testing.assert_close(raw_attention(captured).flatten(1), row)


@pytest.mark.parametrize("key", SWINS)
def test_raw_attention_of_a_swin_is_the_columns_mean(key):
    captured = captured_of(key)
    columns = over_all_tokens(captured.attention[-1][1].mean(dim=1), captured.family.windows[-1]).mean(dim=0)
    torch.testing.assert_close(raw_attention(captured)[1].flatten(), columns)


# The CAM rollout.


@pytest.mark.parametrize("key", FAMILIES)
def test_a_cam_rollout_shares_out_one(key):
    """What prefix tokens take is not shown; a Swin has none, and there nothing is lost."""
    total = cam_rollout(captured_of(key), PARAMS).sum(dim=(1, 2))
    assert (total <= 1 + 1e-5).all()
    if "swin" in key:
        torch.testing.assert_close(total, torch.ones(3))


@pytest.mark.parametrize("key", FAMILIES)
def test_without_relevance_in_the_layers_it_is_grad_cam_on_the_patch_grid(key):
    captured = captured_of(key)
    silent = replace(captured, attention_gradient=tuple(0 * gradient for gradient in captured.attention_gradient))
    cam = gradcam(captured)
    cam = cam / cam.sum(dim=(1, 2), keepdim=True)
    fold = captured.family.patch_grid[0] // cam.shape[1]
    expected = cam.repeat_interleave(fold, 1).repeat_interleave(fold, 2) / fold**2
    torch.testing.assert_close(cam_rollout(silent, PARAMS), expected)


@pytest.mark.parametrize("key", SWINS)
def test_from_a_level_cam_it_is_the_gradient_rollout(key):
    """The head of a Swin reads all its tokens alike, and so does the rollout that knows no CAM."""
    captured = captured_of(key)
    level = replace(
        captured,
        activation=torch.ones_like(captured.activation),
        activation_gradient=torch.ones_like(captured.activation_gradient),
    )
    expected = gradient_rollout(captured, params(residual_scaling="rowsum"))
    torch.testing.assert_close(cam_rollout(level, PARAMS), expected)


def test_it_is_linear_in_the_cam_and_takes_only_layers_before_it():
    """A CAM on one patch gives that token's row of the product of the layers before."""
    captured = captured_of("vit")
    activation = torch.zeros_like(captured.activation)
    activation[:, 2, 1] = 1
    point = replace(captured, activation=activation, activation_gradient=torch.ones_like(activation))
    settings = params(discard_ratio=0.0)
    matrix = torch.eye(17)
    for attention, gradient in list(zip(captured.attention, captured.attention_gradient, strict=True))[:2]:
        relevance = (attention[0, 0] * gradient[0, 0]).mean(dim=0).clamp(min=0)
        empty = relevance.sum(dim=1, keepdim=True) == 0
        given = torch.where(empty, torch.eye(17), relevance / relevance.sum(dim=1, keepdim=True))
        matrix = (given + torch.eye(17)) / 2 @ matrix
    torch.testing.assert_close(cam_rollout(point, settings)[0].flatten(), matrix[1 + 2 * 4 + 1, 1:])


@pytest.mark.parametrize("key", ["vit", "wide_swin"])
def test_it_knows_nothing_of_the_gradients_size(key):
    captured = captured_of(key)
    smaller = replace(
        captured,
        activation_gradient=captured.activation_gradient / 100,
        attention_gradient=tuple(gradient / 100 for gradient in captured.attention_gradient),
    )
    torch.testing.assert_close(cam_rollout(smaller, PARAMS), cam_rollout(captured, PARAMS), atol=1e-6, rtol=1e-4)


def test_a_blank_cam_gives_a_blank_map():
    captured = captured_of("swin")
    against = replace(captured, activation=-captured.activation.abs(), activation_gradient=captured.activation.abs())
    assert cam_rollout(against, PARAMS).abs().max() == 0


@pytest.mark.parametrize(
    ("key", "layer", "before"),
    [
        ("vit", "auto", 2),
        ("vit", "blocks.0", 1),
        ("vit", "blocks.0.norm1", 0),
        ("averaged_vit", "auto", 3),
        ("swin", "auto", 4),
        ("swin", "layers.1.blocks.0.norm1", 2),
        ("wide_swin_v2", "layers.1.blocks.0.norm1", 3),  # a Swin v2 normalises behind the attention
        ("swin", "layers.0.blocks.0.norm2", 1),
        ("swin", "patch_embed", 0),
    ],
)
def test_the_layers_before_a_cam_layer_are_those_that_ran(key, layer, before):
    classifier = build(key)
    captured = capture(classifier, draw_images(classifier), TARGETS, layer)
    assert captured.layers_before_cam == before
    maps = cam_rollout(captured, PARAMS)
    assert maps.shape[1:] == family_of(classifier.backbone).patch_grid
    assert (maps.sum(dim=(1, 2)) <= 1 + 1e-5).all()


def test_carrying_adds_nothing_to_a_start_without_layers():
    start = torch.rand(2, 4, 4)
    assert torch.equal(carry_back(start, [], []), start)
