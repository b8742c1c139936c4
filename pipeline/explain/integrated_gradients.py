"""Integrated gradients: the logit's slope along the straight way from black to the image (Sundararajan et al. 2017)."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.explain.watch import at_rest, fp32_gradients
from pipeline.models.build import Classifier


def integrated_gradients(
    classifier: Classifier, images: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, " n"], steps: int
) -> Float[Tensor, "n h w"]:
    """Attribution of each pixel, its colours added up; a map's sum is the target's logit less that of a black image.

    Args:
        steps: points of the Gauss-Legendre rule on the way; the more, the closer the sum. One pass each.
    """
    total = torch.zeros_like(images)
    with at_rest(classifier), fp32_gradients(images.device):
        for position, weight in zip(*_unit_rule(steps), strict=True):
            points = (images * position).requires_grad_()
            scores = classifier(points).gather(1, targets[:, None])
            total += weight * torch.autograd.grad(scores.sum(), [points])[0]
    return (total * images).sum(dim=1)


def _unit_rule(steps: int) -> tuple[list[float], list[float]]:
    """Positions in (0, 1) and their weights, which sum to one."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    return ((nodes + 1) / 2).tolist(), (weights / 2).tolist()
