"""Gradient Attention Rollout: how much of the prediction each patch passes on, through all attention layers.

Layer l's relevance is E_l = max(0, mean over heads of A_l * dA_l), A_l its attention and dA_l the gradient of the
target logit; the lowest share of E_l is dropped, the residual connection is added, rows are normalised, layers are
multiplied. Only the row of the product that the head reads is wanted, so a row vector is carried backwards from the
head, v <- v norm(E_l + I), in O(t^2) per layer instead of O(t^3).

A ViT layer is one window over all tokens. In a Swin, attention acts inside windows of a rolled grid, so v is rolled,
cut into windows, carried, and put back; before a stage whose grid was halved, v is shared among the 2 x 2 patches that
were merged. This is exactly the product of the dense matrices over all tokens, without building one.

E scales with the logit's gradient. Where that is small against the identity, the map is nearly the sum of the layers'
own relevances and `discard_ratio` hardly matters: a property of the method, kept as published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.explain.capture import Captured
from pipeline.models.family import Family, Windows

Mode = Literal["corrected", "compat_vit_explain"]


@dataclass(frozen=True)
class RolloutSettings:
    """Attributes:
    mode: corrected, or compat_vit_explain for vit-explain's script, defects included.
    discard_ratio: lowest part of each layer's relevance, per image, that is dropped; of a Swin, within its windows.
    """

    mode: Mode
    discard_ratio: float


def gradient_rollout(captured: Captured, settings: RolloutSettings) -> Float[Tensor, "n h w"]:
    """Share of the prediction on each patch; with what stays on prefix tokens the shares of an image sum to one."""
    if settings.mode == "compat_vit_explain":
        return _vit_explain(captured, settings.discard_ratio)
    family = captured.family
    layers = zip(captured.attention, captured.attention_gradient, strict=True)
    relevance = [_discard(_relevance(attention, gradient), settings.discard_ratio) for attention, gradient in layers]
    tokens = carry_back(_readout(family, captured.logits), relevance, family.windows)
    return tokens.flatten(1)[:, family.num_prefix_tokens :].unflatten(1, family.patch_grid)


def rollout_refusal(family: Family, settings: RolloutSettings) -> str | None:
    """Why the rollout cannot be computed for a model of this family, or None."""
    if settings.mode == "compat_vit_explain":
        return _vit_explain_refusal(family)
    for windows in family.windows:
        if windows.grid[0] % windows.size[0] or windows.grid[1] % windows.size[1]:
            return (
                f"windows of {_text(windows.size)} do not fill a grid of {_text(windows.grid)}, whose padding would "
                "take relevance; choose another window_size or image_size_px"
            )
    for fine, coarse in pairwise(windows.grid for windows in family.windows):
        if fine not in (coarse, (2 * coarse[0], 2 * coarse[1])):
            return f"a grid of {_text(fine)} cannot be halved without padding; choose another image_size_px"
    return None


def carry_back(
    start: Float[Tensor, "n h w"], relevance: Sequence[Float[Tensor, "n _ _ _"]], windows: Sequence[Windows]
) -> Float[Tensor, "n fine_h fine_w"]:
    """The row vectors `start`, on the last layer's grid, times norm(E + I) of every layer, last layer first.

    Args:
        start: weights of the last layer's tokens; what they sum to is kept.
        relevance: E of each layer, first layer first, [image, window, token, token] and not negative.
        windows: where each layer's windows lie.
    """
    vector = start
    for layer, place in zip(reversed(relevance), reversed(windows), strict=True):
        if vector.shape[1:] != place.grid:
            vector = _unmerge(vector)
        vector = _from_windows(_hop(_to_windows(vector, place), layer), place)
    return vector


def _readout(family: Family, like: Float[Tensor, "n classes"]) -> Float[Tensor, "n h w"]:
    """Equal weights on the tokens that the head reads, summing to one."""
    rows, columns = family.windows[-1].grid
    first, stop = family.read_tokens
    weights = like.new_zeros(len(like), rows * columns)
    weights[:, first:stop] = 1 / (stop - first)
    return weights.unflatten(1, (rows, columns))


def _relevance(attention: Float[Tensor, "n w k t t"], gradient: Float[Tensor, "n w k t t"]) -> Float[Tensor, "n w t t"]:
    return (attention * gradient).mean(dim=2).clamp(min=0)


def _discard(relevance: Float[Tensor, "n w t t"], ratio: float) -> Float[Tensor, "n w t t"]:
    """Zero in place of each image's lowest entries, `ratio` of them over all its windows."""
    flat = relevance.flatten(1)
    highest = flat.topk(flat.shape[1] - int(flat.shape[1] * ratio), sorted=False)
    return torch.zeros_like(flat).scatter(1, highest.indices, highest.values).view_as(relevance)


def _hop(vector: Float[Tensor, "n w t"], relevance: Float[Tensor, "n w t t"]) -> Float[Tensor, "n w t"]:
    """v norm(E + I): each token keeps 1 / (1 + its row sum) and gives the rest where it looked."""
    kept = vector / (1 + relevance.sum(dim=-1))
    return kept + (kept[:, :, None] @ relevance).squeeze(2)


def _to_windows(vector: Float[Tensor, "n h w"], place: Windows) -> Float[Tensor, "n windows t"]:
    (rows, columns), (height, width) = place.grid, place.size
    rolled = vector.roll((-place.shift[0], -place.shift[1]), dims=(1, 2))
    tiles = rolled.reshape(-1, rows // height, height, columns // width, width).transpose(2, 3)
    return tiles.reshape(len(vector), -1, height * width)


def _from_windows(tiles: Float[Tensor, "n windows t"], place: Windows) -> Float[Tensor, "n h w"]:
    (rows, columns), (height, width) = place.grid, place.size
    grid = tiles.reshape(-1, rows // height, columns // width, height, width).transpose(2, 3)
    return grid.reshape(len(tiles), rows, columns).roll(place.shift, dims=(1, 2))


def _unmerge(vector: Float[Tensor, "n h w"]) -> Float[Tensor, "n fine_h fine_w"]:
    """Patch merging joins 2 x 2 tokens by one linear map, so each gets a quarter."""
    return vector.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4


def _vit_explain(captured: Captured, discard_ratio: float) -> Float[Tensor, "n h w"]:
    """What vit-explain's vit_grad_rollout.py returns, before its resize.

    Its three defects are kept: layer l's attention meets the gradient of layer L + 1 - l; that gradient is of the
    scores before the softmax; the row sums divide columns. Each map is divided by its maximum.
    """
    vector = _readout(captured.family, captured.logits).flatten(1)[:, None]
    layers = zip(reversed(captured.attention), captured.attention, captured.attention_gradient, strict=True)
    for attention, mirrored, gradient in layers:
        scores_gradient = mirrored * (gradient - (mirrored * gradient).sum(dim=-1, keepdim=True))
        relevance = _discard(_relevance(attention, scores_gradient), discard_ratio).squeeze(1)
        matrix = relevance + torch.eye(relevance.shape[-1], device=relevance.device)
        vector = vector @ (matrix / matrix.sum(dim=-1)[:, None, :])
    patches = vector[:, 0, 1:].unflatten(1, captured.family.patch_grid)
    largest = patches.amax(dim=(1, 2), keepdim=True)
    return patches / largest.clamp(min=torch.finfo(largest.dtype).tiny)


def _vit_explain_refusal(family: Family) -> str | None:
    rows, columns = family.patch_grid
    if family.num_prefix_tokens == 1 and family.read_tokens == (0, 1) and rows == columns:
        return None
    return (
        "vit-explain's script knows a single class token, which the head reads, before a square grid; here are "
        f"{family.num_prefix_tokens} prefix tokens before {_text(family.patch_grid)} patches and the head reads tokens "
        f"{family.read_tokens[0]} to {family.read_tokens[1] - 1}; choose rollout_mode corrected"
    )


def _text(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}"
