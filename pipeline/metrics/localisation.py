"""Localisation of attributions against segmentation masks: does the heatmap lie where the finding lies?

Chance is the mask's own share of the image, so both scores are read beside `mask_fraction`. A random map puts that
share of its mass inside. It points inside a little less often: upsampling lowers every peak but those on the border,
so noise of 8 x 8 hits a mask in the middle of 64 px with 0.05 where its share is 0.08. Its own row shows it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def pointing_game(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Bool[Tensor, " n"]:
    """Whether the largest attribution lies inside the mask; of equal ones the first in reading order counts.

    Source: Zhang et al. 2016 (excitation backprop), without their tolerance of 15 px.
    """
    peaks = attributions.flatten(1).argmax(dim=1, keepdim=True)
    return masks.flatten(1).gather(1, peaks)[:, 0]


def mass_ratio(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the positive attribution that lies inside the mask; 0 where no attribution is positive."""
    mass = attributions.double().clamp_min(0)
    total = mass.sum((1, 2))
    inside = (mass * masks).sum((1, 2))
    return inside / torch.where(total > 0, total, 1)


def mask_fraction(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the pixels inside the mask: what a blind guess gets in both scores."""
    return masks.double().mean((1, 2))
