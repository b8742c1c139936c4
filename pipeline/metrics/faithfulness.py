"""Faithfulness of attributions: insertion and deletion curves and their area, by RISE's protocol.

Petsiuk et al. 2018: the most salient pixels change first, the target's probability is read after each step, and the
area is taken over the fraction of changed pixels. Insertion starts at a substrate and finishes at the image; deletion
starts at the image and finishes at a substrate: one `Course` serves both. Ties keep reading order (RISE's own sort is
unstable and starts ties at the last pixel). No model is known here: `predict` maps images to class probabilities.

What changes at a time is a unit: a pixel, or a square of pixels as large as a token (`square_ranks`), since single
pixels out of place are a sight that no transformer was trained on (Inpainting the Gaps, arXiv 2406.11534). Reversed
ranks change the least relevant first; how far the two curves lie apart needs no baseline map (Blücher et al. 2024).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Int32, Int64
from torch import Tensor

from pipeline.device import in_batches_that_fit
from pipeline.metrics.imputation import Imputer

TIE_RULE = "stable, reading order"
LEAST_SPAN = 0.1  # of probability between image and substrate, below which a normalised area would be mostly noise

Predict = Callable[[Float[Tensor, "n c h w"]], Float[Tensor, "n classes"]]

# Writes some states of one image: its position, which pixels changed in each state, where the pictures go.
Between = Callable[[int, Bool[Tensor, "k h w"], Float[Tensor, "k c h w"]], None]


@dataclass(frozen=True)
class Seen:
    """Pictures with what the model says of them, asked once for all curves that start or finish there."""

    pixels: Float[Tensor, "n c h w"]
    probabilities: Float[Tensor, "n classes"]


@dataclass(frozen=True)
class Course:
    """One curve for each image: its two ends, the pictures between them, what changes first, whose score is read."""

    start: Seen
    finish: Seen
    between: Between
    ranks: Int32[Tensor, "n h w"]
    targets: Int[Tensor, " n"]

    @property
    def units(self) -> int:
        return int(self.ranks[0].max()) + 1


def side_by_side(courses: Sequence[Course]) -> Course:
    """All images of the first course, then all of the second, and so on: their jobs fill batches together."""
    images = len(courses[0].ranks)

    def between(image: int, changed: Bool[Tensor, "k h w"], out: Float[Tensor, "k c h w"]) -> None:
        courses[image // images].between(image % images, changed, out)

    return Course(
        _together([course.start for course in courses]),
        _together([course.finish for course in courses]),
        between,
        torch.cat([course.ranks for course in courses]),
        torch.cat([course.targets for course in courses]),
    )


def _together(seen: Sequence[Seen]) -> Seen:
    return Seen(torch.cat([each.pixels for each in seen]), torch.cat([each.probabilities for each in seen]))


def see(predict: Predict, pixels: Float[Tensor, "n c h w"], batch_size: int) -> Seen:
    parts = in_batches_that_fit(lambda part: predict(pixels[part]), len(pixels), batch_size)
    return Seen(pixels, torch.cat(list(parts)))


def exchanged(start: Float[Tensor, "n c h w"], finish: Float[Tensor, "n c h w"]) -> Between:
    """Changed pixels are those of `finish`, the others those of `start`."""

    def write(image: int, changed: Bool[Tensor, "k h w"], out: Float[Tensor, "k c h w"]) -> None:
        torch.where(changed[:, None], finish[image], start[image], out=out)

    return write


def imputed(images: Float[Tensor, "n c h w"], impute: Imputer, inserting: bool) -> Between:
    """Pixels that are gone, the changed ones or when inserting the others, are imputed from those that are left."""

    def write(image: int, changed: Bool[Tensor, "k h w"], out: Float[Tensor, "k c h w"]) -> None:
        out.copy_(impute(images[image], ~changed if inserting else changed))

    return write


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


def square_ranks(attributions: Float[Tensor, "n h w"], side: int) -> Int32[Tensor, "n h w"]:
    """Ranks of whole squares, each by the mean of its attributions; all pixels of a square have its rank.

    Raises:
        ValueError: squares of `side` pixels do not fill the image.
    """
    height, width = attributions.shape[1:]
    if side < 1 or height % side or width % side:
        raise ValueError(f"squares of {side} px do not fill images of {height} x {width} px")
    ranks = saliency_ranks(F.avg_pool2d(attributions[:, None], side)[:, 0])
    return ranks.repeat_interleave(side, dim=1).repeat_interleave(side, dim=2)


def reversed_ranks(ranks: Int32[Tensor, "n h w"]) -> Int32[Tensor, "n h w"]:
    """The exact reverse of an order, so least relevant first; ties then stand in reverse reading order."""
    return ranks.amax(dim=(1, 2), keepdim=True) - ranks


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


def even_curves(predict: Predict, course: Course, steps: int, batch_size: int) -> Float[Tensor, "n points"]:
    """Probability of each image's target while `start` turns into `finish` in equal steps, units of low rank first.

    Insertion: from substrate to image. Deletion: from image to substrate.

    Args:
        steps: see `pixel_counts`, whose length is the number of points.
        batch_size: the most perturbed images that exist at a time; a batch spans images and steps.
    """
    counts = torch.tensor(pixel_counts(course.units, steps))
    images, inner = len(course.ranks), counts[1:-1]
    owners = torch.arange(images).repeat_interleave(len(inner))
    first, last = end_points(course)
    middle = scores_at(predict, course, owners, inner.repeat(images), batch_size)
    return torch.cat([first[:, None], middle.view(images, -1), last[:, None]], dim=1)


def end_points(course: Course) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    return _of_targets(course.start.probabilities, course.targets), _of_targets(
        course.finish.probabilities, course.targets
    )


def scores_at(
    predict: Predict, course: Course, owners: Int64[Tensor, " jobs"], counts: Int64[Tensor, " jobs"], batch_size: int
) -> Float[Tensor, " jobs"]:
    """Probability of the target of image `owners[j]` once `counts[j]` of its units have changed.

    Args:
        owners: on the CPU, in rising order.
        counts: on the CPU.
    """
    jobs = len(owners)
    if not jobs:
        return course.start.probabilities.new_empty(0)
    size = -(-jobs // -(-jobs // batch_size))  # batches of nearly equal size, none above batch_size
    buffer = course.start.pixels.new_empty(size, *course.start.pixels.shape[1:])

    def run(part: slice) -> Float[Tensor, " part"]:
        pictures = buffer[: part.stop - part.start]
        _write(course, owners[part], counts[part], pictures)
        return _of_targets(predict(pictures), course.targets[owners[part].to(course.targets.device)])

    return torch.cat(list(in_batches_that_fit(run, jobs, size)))


def auc(curves: Float[Tensor, "n points"]) -> Float[Tensor, " n"]:
    """Area under each curve by the trapezoid rule, its points spread evenly over [0, 1], in float64."""
    curves = curves.double()
    return (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)


def normalised_auc(
    areas: Float[Tensor, " n"], full: Float[Tensor, " n"], substrate: Float[Tensor, " n"]
) -> Float[Tensor, " n"]:
    """(area - p_substrate) / (p_full - p_substrate): 0 as if always on the substrate, 1 as if always on the image.

    NaN, to be left out and counted, where the image says hardly more than the substrate (a span below `LEAST_SPAN`).
    """
    span = full.double() - substrate.double()
    return torch.where(span >= LEAST_SPAN, (areas - substrate) / span, torch.nan)


def _of_targets(probabilities: Float[Tensor, "n classes"], targets: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    return probabilities.gather(1, targets[:, None].long())[:, 0]


def _write(
    course: Course, owners: Int64[Tensor, " k"], counts: Int64[Tensor, " k"], out: Float[Tensor, "k c h w"]
) -> None:
    images, shares = owners.unique_consecutive(return_counts=True)
    limits = counts.to(course.ranks)[:, None, None].split(shares.tolist())
    for image, limit, pictures in zip(images.tolist(), limits, out.split(shares.tolist()), strict=True):
        course.between(image, course.ranks[image] < limit, pictures)
