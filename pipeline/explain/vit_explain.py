"""What vit-explain's vit_grad_rollout.py computes, defects included, for whoever must compare with published numbers.

Its three defects are kept: layer l's attention meets the gradient of layer L + 1 - l; that gradient is of the scores
before the softmax; the row sums divide columns. Each map is divided by its maximum.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.explain.capture import Captured
from pipeline.explain.carry import readout, text, without_lowest
from pipeline.models.family import Family
from pipeline.params import MethodParams


def vit_explain(captured: Captured, discard_ratio: float) -> Float[Tensor, "n h w"]:
    """The script's mask of each image, before its resize."""
    vector = readout(captured.family, captured.logits).flatten(1)[:, None]
    layers = zip(reversed(captured.attention), captured.attention, captured.attention_gradient, strict=True)
    for attention, mirrored, gradient in layers:
        scores_gradient = mirrored * (gradient - (mirrored * gradient).sum(dim=-1, keepdim=True))
        relevance = without_lowest((attention * scores_gradient).mean(dim=2).relu(), discard_ratio).squeeze(1)
        matrix = relevance + torch.eye(relevance.shape[-1], device=relevance.device)
        vector = vector @ (matrix / matrix.sum(dim=-1)[:, None, :])
    patches = vector[:, 0, 1:].unflatten(1, captured.family.patch_grid)
    largest = patches.amax(dim=(1, 2), keepdim=True)
    return patches / largest.clamp(min=torch.finfo(largest.dtype).tiny)


def vit_explain_refusal(family: Family, settings: MethodParams) -> str | None:
    """Why the script knows no such model or setting, or None."""
    if settings.head_fusion != "mean" or settings.residual_scaling != "none":
        return (
            "vit-explain's script has head_fusion mean and residual_scaling none; choose them or rollout_mode corrected"
        )
    rows, columns = family.patch_grid
    if family.num_prefix_tokens == 1 and family.read_tokens == (0, 1) and rows == columns:
        return None
    return (
        "vit-explain's script knows a single class token, which the head reads, before a square grid; here are "
        f"{family.num_prefix_tokens} prefix tokens before {text(family.patch_grid)} patches and the head reads tokens "
        f"{family.read_tokens[0]} to {family.read_tokens[1] - 1}; choose rollout_mode corrected"
    )
