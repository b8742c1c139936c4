"""Rollout through windows, shifts and merges: against dense matrices and against exact Jacobians."""

from dataclasses import replace

import pytest
import torch

from pipeline.explain import carry
from pipeline.explain.carry import carry_back, windows_refusal
from pipeline.explain.rollout import gradient_rollout
from pipeline.models.family import family_of
from tests.explain.tiny import captured_of, params

import timm  # isort: skip


# Dense matrices over all tokens, from index maps of our own.


def window_members(place):
    """Token positions (row-major) of each window, in its own reading order, found cell by cell."""
    (rows, columns), (height, width), (down, across) = place.grid, place.size, place.shift
    members = []
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            cells = [(top + i + down, left + j + across) for i in range(height) for j in range(width)]
            members.append([(row % rows) * columns + column % columns for row, column in cells])
    return members


def dense(relevance, place):
    """norm(E + I) over all tokens of one image; relevance is [window, token, token]."""
    matrix = torch.eye(place.grid[0] * place.grid[1], dtype=relevance.dtype)
    for window, members in zip(relevance, window_members(place), strict=True):
        for i, row in enumerate(members):
            for j, column in enumerate(members):
                matrix[row, column] += window[i, j]
    return matrix / matrix.sum(dim=1, keepdim=True)


def dense_merge(coarse):
    """[coarse tokens, fine tokens]: each merged token reads its 2 x 2 patches alike."""
    rows, columns = coarse
    matrix = torch.zeros(rows * columns, 4 * rows * columns, dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            for a in range(2):
                for b in range(2):
                    matrix[row * columns + column, (2 * row + a) * 2 * columns + 2 * column + b] = 0.25
    return matrix


def dense_product(relevance, windows):
    """Row i: what token i of the last layer reads of the patches."""
    product = torch.eye(windows[0].grid[0] * windows[0].grid[1], dtype=torch.float64)
    before = windows[0]
    for layer, place in zip(relevance, windows, strict=True):
        if place.grid != before.grid:
            product = dense_merge(place.grid) @ product
        product = dense(layer.double(), place) @ product
        before = place
    return product


@pytest.mark.parametrize("key", ["swin", "wide_swin", "wide_swin_v2"])
def test_swin_equals_the_dense_product(key):
    captured = captured_of(key)
    layers = list(zip(captured.attention, captured.attention_gradient, strict=True))
    relevance = [(attention * gradient).mean(dim=2).clamp(min=0) for attention, gradient in layers]
    relevance = [layer / layer.amax(dim=(1, 2, 3), keepdim=True) for layer in relevance]  # large against identity
    rows, columns = captured.family.windows[-1].grid
    start = torch.full((3, rows, columns), 1 / (rows * columns))
    found = carry_back(start, relevance, captured.family.windows)
    for i in range(3):
        expected = dense_product([layer[i] for layer in relevance], captured.family.windows).mean(dim=0)
        torch.testing.assert_close(found[i].flatten().double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("ratio", [0.0, 0.9])
def test_the_swin_map_starts_uniform_and_discards_within_windows(ratio):
    captured = captured_of("swin")
    found = gradient_rollout(captured, params(discard_ratio=ratio))
    for i in range(3):
        relevance = []
        for attention, gradient in zip(captured.attention, captured.attention_gradient, strict=True):
            layer = (attention[i] * gradient[i]).mean(dim=1).clamp(min=0)
            threshold = layer.flatten().sort().values[int(layer.numel() * ratio)]
            relevance.append(torch.where(layer >= threshold, layer, 0.0))
        expected = dense_product(relevance, captured.family.windows).mean(dim=0)
        torch.testing.assert_close(found[i].flatten().double(), expected, atol=1e-6, rtol=0)


# The exact Jacobian of a linearised model.

LINEAR = {"img_size": (64, 128), "window_size": 4, "embed_dim": 4, "depths": (2, 3, 2), "num_heads": (1, 1, 1)}
LAYERS = 7
SWIN, SWIN_V2 = "swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"


class Nothing(torch.nn.Module):
    def forward(self, tokens):
        return torch.zeros_like(tokens)


def linearise(swin):
    """timm's own Swin made linear: x + A x in each block, A the softmax of random position biases and the shift mask.

    Norms and MLPs are gone, queries and keys zero, values and projections the identity, merging is the mean.
    """
    for module in swin.modules():
        if hasattr(module, "norm1"):
            module.norm1 = module.norm2 = torch.nn.Identity()
            module.mlp = Nothing()
        if hasattr(module, "qkv"):
            module.qkv.weight.data = torch.cat([torch.zeros(2 * module.dim, module.dim), torch.eye(module.dim)])
            module.proj.weight.data = torch.eye(module.dim)
        if hasattr(module, "relative_position_bias_table"):
            torch.nn.init.normal_(module.relative_position_bias_table)
        if hasattr(module, "reduction"):
            module.norm = torch.nn.Identity()
            module.reduction.weight.data = torch.eye(2 * module.dim, module.dim).repeat(1, 4) / 4
        if hasattr(module, "cpb_mlp"):  # of a Swin v2, which makes its position biases
            module.cpb_mlp[2].weight.data.normal_()
    swin.patch_embed = swin.norm = torch.nn.Identity()
    for name, parameter in swin.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.zeros_(parameter)
    return swin.double().eval()


def linear_world(weights, arch=SWIN):
    """d(weighted output tokens) / d(input tokens) by autograd, the attention of every layer, and the windows."""
    torch.manual_seed(0)
    swin = timm.create_model(arch, **LINEAR)
    family, attention = family_of(swin), []
    swin = linearise(swin)
    for name in family.attention:
        dropout = swin.get_submodule(name).attn_drop
        dropout.register_forward_hook(lambda module, given, out: attention.append(out[None, :, 0].detach()))
    tokens = torch.randn(1, *family.patch_grid, 4, dtype=torch.float64, requires_grad=True)
    output = swin.forward_features(tokens)[0, :, :, 0]  # channels do not mix
    return torch.autograd.grad((output * weights).sum(), tokens)[0][0, :, :, 0], attention, family.windows


def rolled(weights, attention, windows):
    """With E = A, whose rows sum to one, norm(E + I) is half of the block's A + I."""
    return 2**LAYERS * carry_back(weights[None], attention, windows)[0]


def one_token(row, column):
    weights = torch.zeros(4, 8, dtype=torch.float64)
    weights[row, column] = 1
    return weights


POOLED = torch.full((4, 8), 1 / 32, dtype=torch.float64)


@pytest.mark.parametrize("arch", [SWIN, SWIN_V2])
@pytest.mark.parametrize("weights", [POOLED, one_token(0, 0), one_token(2, 3), one_token(3, 7)])
def test_rollout_is_the_exact_jacobian_of_a_linear_swin(weights, arch):
    jacobian, attention, windows = linear_world(weights, arch)
    found = rolled(weights, attention, windows)
    torch.testing.assert_close(found, jacobian, atol=1e-12, rtol=1e-9)
    assert torch.equal(found > 1e-30, jacobian > 1e-30)  # the shift mask leaves exp(-100), which is smaller


def without_shift(windows):
    return [replace(place, shift=(0, 0)) for place in windows]


def flipped_shift(windows):
    return [replace(place, shift=(-place.shift[0], -place.shift[1])) for place in windows]


def transposed_shift(windows):
    return [replace(place, shift=place.shift[::-1]) for place in windows]


def early_shift(windows):
    return [windows[1], windows[0], *windows[2:]]


@pytest.mark.parametrize("mutate", [without_shift, flipped_shift, transposed_shift, early_shift])
def test_the_jacobian_sees_a_wrong_shift(mutate):
    weights = one_token(2, 3)
    jacobian, attention, windows = linear_world(weights)
    assert (rolled(weights, attention, mutate(windows)) - jacobian).abs().max() > 0.01 * jacobian.max()


@pytest.mark.parametrize(
    "unmerge",
    [
        lambda vector: vector.repeat(1, 2, 2) / 4,  # a copy of the grid in each corner
        lambda vector: vector.repeat_interleave(2, 1).repeat_interleave(2, 2),  # each patch gets all
    ],
)
def test_the_jacobian_sees_a_wrong_merge(unmerge, monkeypatch):
    monkeypatch.setattr(carry, "_unmerge", unmerge)
    weights = one_token(2, 3)
    jacobian, attention, windows = linear_world(weights)
    assert (rolled(weights, attention, windows) - jacobian).abs().max() > 0.01 * jacobian.max()


@pytest.mark.parametrize(
    ("size", "window", "reason"), [(96, 5, "windows of 5x5 do not fill"), (36, 9, "9x9 cannot be halved")]
)
@pytest.mark.parametrize("arch", [SWIN, SWIN_V2])
def test_a_swin_that_pads_is_refused(arch, size, window, reason):
    options = {"embed_dim": 4, "depths": (1, 1), "num_heads": (1, 1)}
    swin = timm.create_model(arch, img_size=size, window_size=window, **options)
    assert reason in windows_refusal(family_of(swin))
