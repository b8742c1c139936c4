"""A protocol of insertion and deletion at work: images, their substrates and any number of maps in, curves out.

The public `insertion_deletion` and the study's stage `score` both draw their curves here. What the model says of the
images and of their substrates is asked once, in a `Scene`, and serves all maps and both curves.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from pipeline.device import batch_within, resolve_precision
from pipeline.errors import StudyError
from pipeline.metrics.adaptive import GRID_STEPS, Curves, adaptive_curves, fixed_curves, parted
from pipeline.metrics.faithfulness import (
    Course,
    Predict,
    Seen,
    exchanged,
    imputed,
    pixel_counts,
    reversed_ranks,
    saliency_ranks,
    see,
    side_by_side,
    square_ranks,
    upsampled,
)
from pipeline.metrics.prediction import scoring
from pipeline.metrics.substrates import IMPUTERS, NAMES, pictures
from pipeline.models.build import Classifier

AGREEMENT_IMAGES = 4
AGREEMENT_STEPS = 4

ADAPTIVE: Literal["adaptive"] = "adaptive"
Steps = int | Literal["adaptive"]
CurveName = Literal["insertion", "deletion"]
ORDERS = ("most_relevant_first", "least_relevant_first")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How curves are drawn. Every figure depends on all of it, so it is stored with them."""

    steps: Steps
    insertion_substrate: str
    deletion_substrate: str
    unit_px: int  # side of the square of pixels that changes at a time
    order: str  # one of ORDERS

    @property
    def substrates(self) -> dict[CurveName, str]:
        return {"insertion": self.insertion_substrate, "deletion": self.deletion_substrate}

    @property
    def substrates_to_see(self) -> int:
        """How many pictures of an image the model is asked about beside the image."""
        return len(set(self.substrates.values()))


def check_protocol(protocol: Protocol, size: tuple[int, int]) -> None:
    """
    Args:
        size: rows and columns of the images.

    Raises:
        StudyError: a name is unknown, squares do not fill the image, or there are more steps than squares.
    """
    if unknown := [name for name in protocol.substrates.values() if name not in NAMES]:
        raise StudyError(f"substrates: unknown substrate {unknown[0]!r}; choose from {', '.join(NAMES)}")
    if protocol.order not in ORDERS:
        raise StudyError(f"order: {protocol.order!r} is not one of {', '.join(ORDERS)}")
    unit = protocol.unit_px
    if unit < 1 or size[0] % unit or size[1] % unit:
        raise StudyError(f"unit_px: squares of {unit} px do not fill images of {size[0]} x {size[1]} px")
    try:
        steps_taken(protocol, size)
    except (ValueError, TypeError) as error:
        raise StudyError(f"{error}; or choose {ADAPTIVE}") from None


def steps_taken(protocol: Protocol, size: tuple[int, int]) -> int:
    """How many equal steps curves on images of this size have, see `pixel_counts`; of adaptive ones, their grid."""
    units = size[0] * size[1] // protocol.unit_px**2
    steps = min(GRID_STEPS, units) if protocol.steps == ADAPTIVE else protocol.steps
    return len(pixel_counts(units, steps)) - 1


@dataclass(frozen=True)
class Engine:
    """How the model is run: what it costs, and, but for rounding and the temperature, no figure depends on it."""

    precision: str
    temperature: float
    batch_size: int | str


@dataclass(frozen=True)
class Scorer:
    """A protocol with the model that it is put to, and where it runs."""

    predict: Predict
    device: torch.device
    protocol: Protocol
    batch_size: int


@contextmanager
def scorer_of(
    classifier: Classifier,
    protocol: Protocol,
    engine: Engine,
    example: Float[Tensor, "1 3 h w"],
) -> Iterator[Scorer]:
    """The scorer while the model is set up for it.

    Args:
        example: an image, by which the batch size is measured where it is `auto`.
    """
    device = classifier.mean.device
    with scoring(classifier, engine.precision, engine.temperature) as predict:
        size = batch_within(predict, example.to(device)) if isinstance(engine.batch_size, str) else engine.batch_size
        yield Scorer(predict, device, protocol, size)


@dataclass(frozen=True)
class Scene:
    """Images and their substrates as the model sees them, and the class of each whose probability is followed."""

    full: Seen
    substrates: dict[str, Seen]
    targets: Int64[Tensor, " n"]


def scene_of(
    scorer: Scorer,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    partners: Float[Tensor, "n 3 h w"] | None = None,
    probabilities: Float[Tensor, "n classes"] | None = None,
) -> Scene:
    """
    Args:
        images: on the CPU: a GPU may convolve in TF32, and a substrate is to be the same picture everywhere.
        partners: for the substrate `another_image`, the other image of each.
        probabilities: what the model says of the images, where that is known already.
    """
    here = images.to(scorer.device)
    full = see(scorer.predict, here, scorer.batch_size) if probabilities is None else Seen(here, probabilities)
    substrates = {
        name: see(scorer.predict, pictures(name, images, partners).to(scorer.device), scorer.batch_size)
        for name in scorer.protocol.substrates.values()
    }
    return Scene(full, substrates, targets.to(scorer.device))


def curves_of(scorer: Scorer, scene: Scene, attributions: Float[Tensor, "n rows columns"]) -> dict[CurveName, Curves]:
    """Both curves of one map for each image, on whatever grid the maps are."""
    ranks = _ranks(attributions.to(scorer.device).float(), scene.full.pixels, scorer.protocol)
    substrates = scorer.protocol.substrates
    both = side_by_side([_course(scene, ranks, curve, name) for curve, name in substrates.items()])
    return dict(zip(substrates, parted(_drawn(scorer, both), len(ranks)), strict=True))


def disagreement(
    scorer: Scorer,
    classifier: Classifier,
    engine: Engine,
    see_with: Callable[[Scorer], Scene],
    attributions: Float[Tensor, "n rows columns"],
) -> float:
    """The largest difference from fp32 at the ends and quarters of both curves of a few images; 0 in fp32.

    Args:
        see_with: the scene of those images, seen by the scorer that it is given.
    """
    if resolve_precision(scorer.device, engine.precision) == "fp32":
        return 0.0
    coarse = replace(scorer, protocol=replace(scorer.protocol, steps=AGREEMENT_STEPS))
    with scoring(classifier, "fp32", engine.temperature) as exact:
        both = (coarse, replace(coarse, predict=exact))
        ours, true = (curves_of(each, see_with(each), attributions) for each in both)
    return max(float((ours[curve].probabilities - true[curve].probabilities).abs().max()) for curve in ours)


def _drawn(scorer: Scorer, course: Course) -> Curves:
    steps = scorer.protocol.steps
    if steps == ADAPTIVE:
        return adaptive_curves(scorer.predict, course, scorer.batch_size)
    return fixed_curves(scorer.predict, course, steps, scorer.batch_size)


def _ranks(
    attributions: Float[Tensor, "n rows columns"], images: Float[Tensor, "n 3 h w"], protocol: Protocol
) -> Int32[Tensor, "n h w"]:
    maps = upsampled(attributions, (images.shape[2], images.shape[3]))
    ranks = saliency_ranks(maps) if protocol.unit_px == 1 else square_ranks(maps, protocol.unit_px)
    return ranks if protocol.order == ORDERS[0] else reversed_ranks(ranks)


def _course(scene: Scene, ranks: Int32[Tensor, "n h w"], curve: CurveName, substrate: str) -> Course:
    inserting, image, replaced = curve == "insertion", scene.full, scene.substrates[substrate]
    start, finish = (replaced, image) if inserting else (image, replaced)
    if substrate in IMPUTERS:  # what it puts in a pixel's place depends on which others are left
        between = imputed(image.pixels, IMPUTERS[substrate], inserting)
    else:
        between = exchanged(start.pixels, finish.pixels)
    return Course(start, finish, between, ranks, scene.targets)
