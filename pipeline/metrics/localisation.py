"""Localisation of attributions against segmentation masks: does the heatmap lie where the finding lies?

Chance is the mask's own share of the image, m, from `mask_fraction`; for `mass_over_chance` it is 1, for `top_k_iou`
m / (2 - m). A random map puts that share of its mass inside. It points inside a little less often: upsampling lowers
every peak but those on the border, so noise of 8 x 8 hits a mask in the middle of 64 px with 0.05 where its share is
0.08. Its own row shows it.

Mass counts the positive attribution; ranks count all of it, so that negative values order the rest. Every function
takes a batch at pixel resolution and scores each image for itself, in float64. Those that need a finding refuse an
empty mask: `has_finding` says which images to leave out, and to count.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from pipeline.metrics.maps import positive_mass, require_finite, share

Stratum = Literal["small", "medium", "large"]
# Shares of the image near the median benign (2.3 %) and malignant (10.5 %) lesion of BUSI. Fixed, not quantiles of the
# test set: a stratum then means the same in every set and split.
MEDIUM_FROM, LARGE_FROM = 0.025, 0.1


def has_finding(masks: Bool[Tensor, "n h w"]) -> Bool[Tensor, " n"]:
    """Which masks hold anything; the others (a normal scan) have no finding to localise."""
    return masks.flatten(1).any(dim=1)


def mask_fraction(masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the pixels inside the mask: what a blind guess gets."""
    return masks.double().mean((1, 2))


def size_strata(masks: Bool[Tensor, "n h w"]) -> list[Stratum]:
    """Each finding's size by its share of the image: small below 2.5 %, medium below 10 %, else large.

    Raises:
        ValueError: a mask is empty.
    """
    _require_findings(masks)
    bounds = torch.tensor([MEDIUM_FROM, LARGE_FROM], dtype=torch.float64, device=masks.device)
    names: tuple[Stratum, ...] = ("small", "medium", "large")
    return [names[index] for index in torch.bucketize(mask_fraction(masks), bounds, right=True).tolist()]


def pointing_game(
    attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"], tolerance_px: int = 0
) -> Bool[Tensor, " n"]:
    """Whether the mask comes within `tolerance_px` of the largest attribution, in a straight line; 0: it lies inside.

    Of equal peaks the first in reading order counts, so a flat map points at the top left corner.

    Raises:
        ValueError: an attribution is NaN or infinite.
    Source: Zhang et al. 2016 (excitation backprop), who tolerate 15 px; the default is none.
    """
    require_finite(attributions, "attributions")
    peaks = attributions.flatten(1).argmax(dim=1)
    height, width = masks.shape[1:]
    down = torch.arange(height, device=masks.device) - peaks[:, None] // width
    across = torch.arange(width, device=masks.device) - peaks[:, None] % width
    near = down[:, :, None] ** 2 + across[:, None, :] ** 2 <= tolerance_px**2
    return (near & masks).flatten(1).any(dim=1)


def mass_ratio(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the positive attribution that lies inside the mask; 0 where no attribution is positive.

    Raises:
        ValueError: an attribution is NaN or infinite.
    Source: relevance mass accuracy, Arras et al. 2022 (CLEVR-XAI).
    """
    mass = positive_mass(attributions)
    return share((mass * masks).sum((1, 2)), mass.sum((1, 2)))


def mass_over_chance(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """How many times as dense the positive attribution is inside the mask as over the image; 1 is chance.

    0 where no attribution is positive; at most the image's area over the mask's.

    Raises:
        ValueError: an attribution is NaN or infinite, or a mask is empty.
    Source: mass ratio over the mask's share, as Kohlbrenner et al. 2020 (weighted inside-total relevance ratio).
    """
    _require_findings(masks)
    return mass_ratio(attributions, masks) / mask_fraction(masks)


def rank_accuracy(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the K largest attributions that lie inside the mask, which has K pixels.

    Pixels that tie for the last places count by the share of them inside, the mean over all orders of the ties. A
    flat map so gets the mask's share of the image, whatever its value.

    Raises:
        ValueError: an attribution is NaN or infinite, or a mask is empty.
    Source: relevance rank accuracy, Arras et al. 2022 (CLEVR-XAI).
    """
    return _top_hits(attributions, masks) / masks.sum((1, 2))


def top_k_iou(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Intersection over union of the mask, of K pixels, with the K largest attributions; ties as in `rank_accuracy`.

    It is r / (2 - r) of the rank accuracy r: the same order of methods, on the scale of segmentation papers.

    Raises:
        ValueError: an attribution is NaN or infinite, or a mask is empty.
    """
    hits = _top_hits(attributions, masks)
    return hits / (2 * masks.sum((1, 2)) - hits)


def average_precision(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Area under the precision-recall curve of the pixels as a detector of the mask (AUPRC).

    The mean, over the mask's pixels, of the precision among all pixels that are at least as large. Ties enter
    together, so a flat map gets the mask's share of the image.

    Raises:
        ValueError: an attribution is NaN or infinite, or a mask is empty.
    Source: the sum of (R_k - R_k-1) P_k over distinct thresholds, as scikit-learn's average_precision_score.
    """
    _require_scorable(attributions, masks)
    ascending, order = attributions.flatten(1).sort(dim=1)
    inside = masks.flatten(1).gather(1, order)
    smaller = _first_of_ties(ascending)
    inside_up_to = inside.cumsum(dim=1)
    positives = inside_up_to[:, -1:]
    positives_below = functional.pad(inside_up_to, (1, 0)).gather(1, smaller)
    precision = (positives - positives_below).double() / (inside.shape[1] - smaller)
    return (precision * inside).sum(dim=1) / positives[:, 0]


def _first_of_ties(ascending: Float[Tensor, "n cells"]) -> Int64[Tensor, "n cells"]:
    """Where the run of equal values that each one belongs to begins: how many are smaller."""
    places = torch.arange(ascending.shape[1], device=ascending.device).expand_as(ascending)
    begins = functional.pad(ascending[:, 1:] != ascending[:, :-1], (1, 0))
    return torch.where(begins, places, 0).cummax(dim=1).values


def _top_hits(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """How many of the K largest attributions lie inside the mask of K pixels; a tied one counts in part."""
    _require_scorable(attributions, masks)
    values, inside = attributions.flatten(1), masks.flatten(1)
    size = inside.sum(dim=1, keepdim=True)
    last = values.sort(dim=1, descending=True).values.gather(1, size - 1)
    above, tied = values > last, values == last
    places_left = size[:, 0] - above.sum(dim=1)
    return (above & inside).sum(dim=1) + places_left * (tied & inside).sum(dim=1).double() / tied.sum(dim=1)


def _require_scorable(attributions: Float[Tensor, "n h w"], masks: Bool[Tensor, "n h w"]) -> None:
    require_finite(attributions, "attributions")
    _require_findings(masks)


def _require_findings(masks: Bool[Tensor, "n h w"]) -> None:
    if empty := (~has_finding(masks)).nonzero().flatten().tolist():
        raise ValueError(f"masks: empty for image {empty[0]} of the batch; leave out what `has_finding` does not name")
