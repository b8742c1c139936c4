"""Faithfulness of attributions: insertion and deletion curves and their area, by RISE's protocol.

Petsiuk et al. 2018: the most salient pixels change first, the target's probability is read after each step, and the
area is taken over the fraction of changed pixels. Insertion starts at a substrate and finishes at the image; deletion
starts at the image and finishes at a substrate: one function serves both. Ties keep reading order (RISE's own sort is
unstable and starts ties at the last pixel). No model is known here: `predict` maps images to class probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int32
from torch import Tensor

TIE_RULE = "stable, reading order"

Predict = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n classes"]]


@dataclass(frozen=True)
class Seen:
    """Pictures with what the model says of them, asked once for all curves that start or finish there."""

    pixels: Float[Tensor, "n c h w"]
    probabilities: Float[Tensor, "n classes"]


def see(predict: Predict, pixels: Float[Tensor, "n c h w"], batch_size: int) -> Seen:
    return Seen(pixels, torch.cat([predict(batch) for batch in pixels.split(batch_size)]))


def upsampled(attributions: Float[Tensor, "n rows columns"], size: tuple[int, int]) -> Float[Tensor, "n h w"]:
    """Attributions from their native grid to pixels; grid cells are areas, so corners are not aligned."""
    return F.interpolate(attributions[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def saliency_ranks(attributions: Float[Tensor, "n h w"]) -> Int32[Tensor, "n h w"]:
    """Each pixel's place when pixels stand in order of falling attribution, 0 first; ties keep reading order.

    Raises:
        ValueError: an attribution is NaN or infinite, so it has no place.
    """
    if not attributions.isfinite().all():
        raise ValueError("attributions: NaN or infinite values cannot be ranked")
    order = attributions.flatten(1).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
    return torch.empty_like(places).scatter_(1, order, places).view(attributions.shape)


def pixel_counts(pixels: int, steps: int) -> list[int]:
    """Pixels changed at each point of a curve, from none to all.

    As in RISE a step changes ceil(pixels / steps) pixels and the last one what is left. Where so few, large steps reach
    the end early (64 x 64 pixels in 224 steps: 216 steps of 19), the curve has that many points fewer.

    Raises:
        ValueError: there are more steps than pixels, or none.
    """
    if not 1 <= steps <= pixels:
        raise ValueError(f"steps: {steps} is not between 1 and the {pixels} pixels of an image")
    per_step = -(-pixels // steps)
    return [*range(0, pixels, per_step), pixels]


def perturbation_curves(
    predict: Predict,
    start: Seen,
    finish: Seen,
    ranks: Int32[Tensor, "n h w"],
    targets: Int[Tensor, " n"],
    steps: int,
    batch_size: int,
) -> Float[Tensor, "n points"]:
    """Probability of each image's target while `start` turns into `finish`, pixels of low rank first.

    Insertion: from substrate to image. Deletion: from image to substrate.

    Args:
        steps: see `pixel_counts`, whose length is the number of points.
        batch_size: the most perturbed images that exist at a time; a batch spans images and steps.
    """
    counts = pixel_counts(ranks[0].numel(), steps)
    curves = start.probabilities.new_empty(len(ranks), len(counts))
    curves[:, 0] = _of_targets(start.probabilities, targets)
    curves[:, -1] = _of_targets(finish.probabilities, targets)
    inner_counts = torch.tensor(counts[1:-1], dtype=torch.int32, device=ranks.device)
    if len(inner_counts):
        inner = _inner_points(predict, start.pixels, finish.pixels, ranks, targets, inner_counts, batch_size)
        curves[:, 1:-1] = inner.view(len(ranks), -1)
    return curves


def auc(curves: Float[Tensor, "n points"]) -> Float[Tensor, " n"]:
    """Area under each curve by the trapezoid rule, its points spread evenly over [0, 1], in float64."""
    curves = curves.double()
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def _of_targets(probabilities: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return probabilities.gather(1, targets[:, None])[:, 0]


def _inner_points(
    predict: Predict,
    start: Float[Tensor, "n c h w"],
    finish: Float[Tensor, "n c h w"],
    ranks: Int32[Tensor, "n h w"],
    targets: Int[Tensor, " n"],
    counts: Int32[Tensor, " points"],
    batch_size: int,
) -> Float[Tensor, " n*points"]:
    """Scores between the two ends; entry j belongs to image j // points and to counts[j % points]."""
    points = len(counts)
    jobs = len(ranks) * points
    size = -(-jobs // -(-jobs // batch_size))  # batches of nearly equal size, none above batch_size
    buffer = start.new_empty(size, *start.shape[1:])
    scores = []
    for first in range(0, jobs, size):
        last = min(first + size, jobs)
        for image in range(first // points, -(-last // points)):
            begin, end = max(first, image * points), min(last, (image + 1) * points)
            changed = ranks[image] < counts[begin - image * points : end - image * points, None, None, None]
            torch.where(changed, finish[image], start[image], out=buffer[begin - first : end - first])
        owners = torch.arange(first, last, device=targets.device) // points
        scores.append(_of_targets(predict(buffer[: last - first]), targets[owners]))
    return torch.cat(scores)
