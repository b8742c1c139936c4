"""Attention through all layers: how much of the prediction each patch passes on.

In Gradient Attention Rollout, layer l's relevance is E_l = max(0, mean over heads of A_l * dA_l), A_l its attention and
dA_l the gradient of the target logit; the lowest share of E_l is dropped, the residual connection is added, rows are
normalised, layers are multiplied, and the row that the head reads is the map.

E scales with the logit's gradient. Where that is small against the identity, the map is nearly the sum of the layers'
own relevances and `discard_ratio` hardly matters: a property of the method, kept as published. `residual_scaling:
rowsum` takes it away: rows of E are divided by their sums, so each token gives half of what it has.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.explain.capture import Captured
from pipeline.explain.carry import (
    additive_hop,
    carry_back,
    last_grid,
    patches_of,
    plain_hop,
    readout,
    windows_refusal,
    without_lowest,
)
from pipeline.explain.gradcam import gradcam
from pipeline.explain.vit_explain import vit_explain, vit_explain_refusal
from pipeline.models.family import Family
from pipeline.params import MethodParams

Relevance = Sequence[Float[Tensor, "n _ _ _"]]

FUSIONS: dict[str, Callable[..., Tensor]] = {"mean": torch.mean, "max": torch.amax, "min": torch.amin}


def gradient_rollout(captured: Captured, settings: MethodParams) -> Float[Tensor, "n h w"]:
    """Share of the prediction on each patch; with what stays on prefix tokens the shares of an image sum to one."""
    if settings.rollout_mode == "compat_vit_explain":
        return vit_explain(captured, settings.discard_ratio)
    relevance = _relevance(captured, settings)
    if settings.residual_scaling == "rowsum":
        relevance = [_rows_to_one(layer) for layer in relevance]
    tokens = carry_back(readout(captured.family, captured.logits), relevance, captured.family.windows)
    return patches_of(tokens, captured.family, captured.family.patch_grid)


def rollout_refusal(family: Family, settings: MethodParams) -> str | None:
    """Why the rollout cannot be computed for a model of this family, or None."""
    compat = settings.rollout_mode == "compat_vit_explain"
    return vit_explain_refusal(family, settings) if compat else windows_refusal(family)


def cam_rollout(captured: Captured, settings: MethodParams) -> Float[Tensor, "n h w"]:
    """Grad-CAM's map, carried by gradient rollout through the layers that ran before the Grad-CAM layer.

    Grad-CAM says which tokens of a deep layer count for the target, through attention's weights and its values alike,
    but takes a token there for the patch at its place. Rollout says which patches a token was mixed from, but starts
    from tokens that the head reads, however little they say. So here the rollout starts from Grad-CAM's positive map,
    summing to one, in place of the readout. What tokens give away must then not depend on the size of the logit's
    gradient, which would leave nearly all of it where Grad-CAM put it: rows are scaled as by `residual_scaling:
    rowsum`, whatever that setting says. Head fusion and discarding are those of the settings.

    The shares of an image sum to one, less what flows to prefix tokens, or to zero where Grad-CAM is blank. On a Swin
    they lie on the grid of the first layer, not of the last. Without a layer before, the map is Grad-CAM's own.
    """
    family, cam = captured.family, gradcam(captured).flatten(1)
    weights = cam / cam.sum(dim=1, keepdim=True).clamp(min=torch.finfo(cam.dtype).tiny)
    prefix = weights.new_zeros(len(weights), family.num_prefix_tokens)
    grid = family.cam_grid if family.stage_grids else family.windows[-1].grid
    start = torch.cat([prefix, weights], dim=1).unflatten(1, grid)
    layers = slice(captured.layers_before_cam)
    relevance = [_rows_to_one(layer) for layer in _relevance(captured, settings)[layers]]
    return patches_of(carry_back(start, relevance, family.windows[layers]), family, family.patch_grid)


def chefer(captured: Captured) -> Float[Tensor, "n h w"]:
    """R <- R + E R with E = mean over heads of max(0, A * dA), layer by layer (Chefer et al. ICCV 2021, eq. 5 and 6).

    As with rollout only the row that the head reads is carried. It is not normalised: the scale is the gradient's.
    """
    layers = zip(captured.attention, captured.attention_gradient, strict=True)
    relevance = [(attention * gradient).relu().mean(dim=2) for attention, gradient in layers]
    start = readout(captured.family, captured.logits)
    tokens = carry_back(start, relevance, captured.family.windows, additive_hop)
    return patches_of(tokens, captured.family, captured.family.patch_grid)


def attention_rollout(captured: Captured) -> Float[Tensor, "n h w"]:
    """(A + I) / 2 of all layers, heads averaged, multiplied (Abnar & Zuidema 2020): the same for every target."""
    relevance = [attention.mean(dim=2) for attention in captured.attention]
    tokens = carry_back(readout(captured.family, captured.logits), relevance, captured.family.windows)
    return patches_of(tokens, captured.family, captured.family.patch_grid)


def raw_attention(captured: Captured) -> Float[Tensor, "n h w"]:
    """Where the tokens that the head reads look in the last layer, heads averaged: the same for every target.

    A class token has one row of attention; where the head averages all patches, their rows are averaged.
    """
    family, start = captured.family, readout(captured.family, captured.logits)
    last = captured.attention[-1].mean(dim=2)
    return patches_of(carry_back(start, [last], family.windows[-1:], plain_hop), family, last_grid(family))


def _relevance(captured: Captured, settings: MethodParams) -> Relevance:
    layers = zip(captured.attention, captured.attention_gradient, strict=True)
    fused = [FUSIONS[settings.head_fusion](attention * gradient, dim=2).relu() for attention, gradient in layers]
    return [without_lowest(relevance, settings.discard_ratio) for relevance in fused]


def _rows_to_one(relevance: Float[Tensor, "n w t t"]) -> Float[Tensor, "n w t t"]:
    """Rows divided by their sums; an empty row stays empty."""
    return relevance / relevance.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(relevance.dtype).tiny)
