"""Does a model decide by a place beside the evidence? The place is searched for blindly, then tampered with.

Search: a window slides over images, and its pixels come from an image of another class. The place that sways the
predictions most towards that class is the one that the model reads most beside the evidence. Heatmaps have no say in
it: of a model that decides by a planted tag, Grad-CAM may look anywhere else.

Some place always sways most, so it is chosen on other images than those it is measured on, and measured beside a
control. Found is what lies in one place no larger than a window; not a tint of the whole image, nor what a mask covers.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from pipeline.metrics.faithfulness import Predict, see, upsampled
from pipeline.metrics.localisation import has_finding, mass_ratio, pointing_game
from pipeline.metrics.trust.intervention import (
    Box,
    donors,
    free_of,
    inside,
    neutralised,
    pasted,
    shared_pixels,
    windows,
)
from pipeline.metrics.trust.similarity import Maps, Scores

OUTSIDE = 2 / 3  # of the images with evidence have none of it in a place that counts as beside it


@dataclass(frozen=True)
class Sample:
    """Images, where their evidence lies, and what the model says of them."""

    rows: Int64[np.ndarray, " n"]
    images: Float[Tensor, "n 3 h w"]
    evidence: Bool[Tensor, "n h w"]
    probabilities: Float[Tensor, "n classes"]

    @property
    def predicted(self) -> Int64[Tensor, " n"]:
        return self.probabilities.argmax(dim=1)

    def at(self, chosen: Bool[Tensor, " n"] | Int64[Tensor, " k"]) -> "Sample":
        """Those that are marked, or those at the positions."""
        rows = self.rows[chosen.cpu().numpy()]
        return Sample(rows, self.images[chosen], self.evidence[chosen], self.probabilities[chosen])


class Places(NamedTuple):
    """Two places of one size: the region under suspicion and its control."""

    region: Box
    control: Box


@dataclass(frozen=True)
class Tampered:
    """Images without evidence in either place, and what the model says once these are tampered with."""

    places: Places
    sample: Sample
    donor_classes: Int64[Tensor, " n"]
    followed: Bool[Tensor, " n"]  # the donor's class, with the donor's pixels in the region
    followed_control: Bool[Tensor, " n"]  # the same with its pixels in the control
    neutral: Sample  # the same images without what the region showed


def search(predict: Predict, sample: Sample, seed: int, batch_size: int) -> Places | None:
    """The place beside the evidence that sways predictions most, and its control; None where no place can be tried."""
    swayed = {}
    for box in places_beside(sample.evidence):
        if pairs := _pairs(sample, free_of(sample.evidence, box), seed):
            swayed[box] = sway(predict, *pairs, box, batch_size).mean().item()
    if not swayed:
        return None
    region = max(swayed, key=lambda box: swayed[box])
    return Places(region, control_of(region, list(swayed), sample.evidence.shape[2]))


def places_beside(evidence: Bool[Tensor, "n h w"]) -> list[Box]:
    """The windows that lie outside the evidence of most images.

    Images without evidence do not count: with enough of them any place would lie outside.
    """
    held = evidence[has_finding(evidence)]
    boxes = windows(evidence.shape[1], evidence.shape[2])
    return [box for box in boxes if free_of(held, box).double().mean().item() >= OUTSIDE]


def control_of(region: Box, places: list[Box], width: int) -> Box:
    """Of the places the one that overlaps the region least, and of those the nearest to its mirror image.

    Left for right: both then lie as deep in an ultrasound and as far from the border.
    """
    mirror = (region[0], width - region[3])

    def misfit(box: Box) -> tuple[int, int]:
        return shared_pixels(box, region), (box[0] - mirror[0]) ** 2 + (box[1] - mirror[1]) ** 2

    return min(places, key=misfit)


def tamper(predict: Predict, sample: Sample, places: Places, seed: int, batch_size: int) -> Tampered | None:
    """What becomes of the images without evidence in either place; None where no such image has a donor.

    Region and control show the same donor, which has no evidence there either.
    """
    free = free_of(sample.evidence, places.region) & free_of(sample.evidence, places.control)
    pairs = _pairs(sample, free, seed)
    if pairs is None:
        return None
    subject, others = pairs
    images = neutralised(subject.images, places.region)
    followed, followed_control = (
        _after(predict, subject, others, box, batch_size).argmax(dim=1) == others.predicted
        for box in (places.region, places.control)
    )
    neutral = Sample(subject.rows, images, subject.evidence, see(predict, images, batch_size).probabilities)
    return Tampered(places, subject, others.predicted, followed, followed_control, neutral)


def sway(predict: Predict, sample: Sample, others: Sample, box: Box, batch_size: int) -> Float[Tensor, " n"]:
    """By how much the probability of each other image's class rises with that image's pixels in the box.

    A rise shows where a model leans even if no prediction turns.
    """
    rise = _after(predict, sample, others, box, batch_size) - sample.probabilities
    return rise.gather(1, others.predicted[:, None])[:, 0]


def focus(maps: Maps, box: Box, height: int, width: int) -> Scores:
    """By method, the share of the positive attribution in the box; chance is the box's share of the image."""
    shares = {}
    for method, map_ in maps.items():
        fine = _spread(map_, height, width)
        shares[method] = mass_ratio(fine, inside(box, height, width).to(fine.device).expand(fine.shape))
    return shares


def pointing_hits(maps: Maps, evidence: Bool[Tensor, "n h w"]) -> dict[str, Bool[Tensor, " n"]]:
    """By method, whether the map's peak lies on the evidence."""
    size = (evidence.shape[1], evidence.shape[2])
    return {method: pointing_game(upsampled(map_, size), evidence) for method, map_ in maps.items()}


def _pairs(sample: Sample, allowed: Bool[Tensor, " n"], seed: int) -> tuple[Sample, Sample] | None:
    """The allowed images that have a donor, and their donors."""
    partners = donors(sample.rows, sample.predicted, allowed, seed)
    chosen = allowed & (partners >= 0)
    return (sample.at(chosen), sample.at(partners[chosen])) if chosen.any() else None


def _after(predict: Predict, sample: Sample, others: Sample, box: Box, batch_size: int) -> Float[Tensor, "n classes"]:
    return see(predict, pasted(sample.images, others.images, box), batch_size).probabilities


def _spread(maps: Float[Tensor, "n rows columns"], height: int, width: int) -> Float[Tensor, "n h w"]:
    """Each cell's value on all of its pixels; smoothing would carry it over the cell's edge."""
    return functional.interpolate(maps[:, None], size=(height, width), mode="nearest")[:, 0]
