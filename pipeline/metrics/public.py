"""`insertion_deletion`: any timm model, images and attributions from any source in; both curves and areas out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.device import batch_within, in_batches_that_fit, resolve_precision
from pipeline.errors import StudyError
from pipeline.metrics.adaptive import Curves, adaptive_curves, fixed_curves, joined
from pipeline.metrics.faithfulness import (
    TIE_RULE,
    Between,
    Course,
    Predict,
    Seen,
    exchanged,
    imputed,
    normalised_auc,
    pixel_counts,
    saliency_ranks,
    see,
    upsampled,
)
from pipeline.metrics.prediction import scoring
from pipeline.metrics.substrates import ANOTHER_IMAGE, IMPUTERS, NAMES, partner_positions
from pipeline.metrics.substrates import pictures as substrate_pictures
from pipeline.models.build import Classifier, as_classifier
from pipeline.models.inputs import check_images, checked_targets, first_not_finite, image_size

IMAGES_AT_A_TIME = 32  # bounds the memory of many images, and is how often progress is told
AGREEMENT_IMAGES = 4
AGREEMENT_STEPS = 4
PRECISIONS = ("fp32", "bf16", "auto")

Steps = int | Literal["adaptive"]


@dataclass(frozen=True)
class Settings:
    """What the figures depend on, to be stored with them."""

    steps: Steps
    insertion_substrate: str
    deletion_substrate: str
    precision: str
    batch_size: int
    tie_rule: str = TIE_RULE


@dataclass(frozen=True)
class InsertionDeletion:
    """Scores of n images; insertion is better when higher, deletion when lower. All tensors are on the CPU."""

    insertion: Curves
    deletion: Curves
    targets: Int64[Tensor, " n"]
    probability_full: Float[Tensor, " n"]  # of the target on the image
    probability_insertion_substrate: Float[Tensor, " n"]
    probability_deletion_substrate: Float[Tensor, " n"]
    disagreement: float  # of probabilities in the precision asked with fp32: the largest on a few images; fp32: 0
    settings: Settings

    @property
    def insertion_auc(self) -> Float64[Tensor, " n"]:
        return self.insertion.areas

    @property
    def deletion_auc(self) -> Float64[Tensor, " n"]:
        return self.deletion.areas

    @property
    def normalised_insertion_auc(self) -> Float64[Tensor, " n"]:
        return normalised_auc(self.insertion_auc, self.probability_full, self.probability_insertion_substrate)

    @property
    def normalised_deletion_auc(self) -> Float64[Tensor, " n"]:
        return normalised_auc(self.deletion_auc, self.probability_full, self.probability_deletion_substrate)

    @property
    def passes(self) -> int:
        """Forward images in all, ends that curves share counted once."""
        once = 1 if self.settings.insertion_substrate != self.settings.deletion_substrate else 2
        return int(self.insertion.passes.sum() + self.deletion.passes.sum()) - once * len(self.targets)


def insertion_deletion(
    model: nn.Module,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor | Sequence[int] | None = None,
    steps: Steps = 224,
    substrates: tuple[str, str] = ("blur", "zero"),
    precision: str = "fp32",
    batch_size: int | Literal["auto"] = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> InsertionDeletion:
    """Scores by RISE's protocol; every image is scored as if alone, whatever the batch.

    The model, which may be in train mode, comes back as it was. Its device is where the arithmetic runs.

    Args:
        model: from timm, or a Classifier; its normalisation is applied inside.
        images: [n, 3, height, width], RGB in [0, 1], of the size that the model was built for.
        attributions: [n, rows, columns], on a grid of their own or one for each pixel.
        targets: a class for each image; None scores the classes predicted.
        steps: equal steps of each curve, or `adaptive` for the areas of 224 steps in about a seventh of the passes.
        substrates: where insertion starts and where deletion ends, by names in `pipeline.metrics.substrates`. The
            partner for `another_image` is the next image given whose target differs, see `partner_positions`.
        precision: fp32, bf16, or auto, which is bf16 on a GPU that has it.
        batch_size: perturbed images at a time; `auto` measures how many fit.
        progress: told how many images are done, and of how many; a bar with the time left is shown on a terminal.

    Raises:
        StudyError: an argument is not as above, or memory does not suffice for one image.
    """
    classifier = as_classifier(model)
    check_images(images, image_size(classifier.backbone))
    _check_attributions(attributions, images)
    _check_protocol(steps, substrates, precision, batch_size, images)
    asked = None if targets is None else checked_targets(targets, len(images), classifier.backbone)
    with scoring(classifier, precision) as predict:
        one = images[:1].to(classifier.mean.device)
        size = batch_within(predict, one) if batch_size == "auto" else batch_size
        scorer = _Scorer(predict, classifier.mean.device, steps, substrates, size)
        batch = _given(scorer, images, attributions, asked)
        blocks = list(_blocks(scorer, batch, progress))
        disagreement = _disagreement(scorer, classifier, precision, batch)
    insertion, deletion = (joined([block[curve] for block in blocks]) for curve in range(2))
    return InsertionDeletion(
        insertion,
        deletion,
        batch.targets,
        probability_full=_last(insertion),
        probability_insertion_substrate=insertion.probabilities[:, 0],
        probability_deletion_substrate=_last(deletion),
        disagreement=disagreement,
        settings=Settings(steps, *substrates, resolve_precision(scorer.device, precision), size),
    )


@dataclass(frozen=True)
class _Scorer:
    predict: Predict
    device: torch.device
    steps: Steps
    substrates: tuple[str, str]
    batch_size: int


@dataclass(frozen=True)
class _Batch:
    """Images with all that their curves need, on the CPU."""

    images: Float[Tensor, "n 3 h w"]
    attributions: Float[Tensor, "n rows columns"]
    probabilities: Float[Tensor, "n classes"]
    targets: Int64[Tensor, " n"]
    partners: Int64[Tensor, " n"] | None

    def part(self, which: slice) -> "_Batch":
        partners = None if self.partners is None else self.partners[which]
        rest = (self.attributions[which], self.probabilities[which], self.targets[which])
        return _Batch(self.images[which], *rest, partners)


def _given(
    scorer: _Scorer,
    images: Float[Tensor, "n 3 h w"],
    attributions: Float[Tensor, "n rows columns"],
    targets: Int64[Tensor, " n"] | None,
) -> _Batch:
    run = lambda part: scorer.predict(images[part].to(scorer.device)).cpu()  # noqa: E731
    probabilities = torch.cat(list(in_batches_that_fit(run, len(images), scorer.batch_size)))
    targets = probabilities.argmax(dim=1) if targets is None else targets.cpu()
    partners = torch.from_numpy(partner_positions(targets.numpy())) if ANOTHER_IMAGE in scorer.substrates else None
    return _Batch(images, attributions, probabilities, targets, partners)


def _blocks(
    scorer: _Scorer, batch: _Batch, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Curves, Curves]]:
    total = len(batch.targets)
    with tqdm(total=total, unit="image", disable=None) as bar:
        for first in range(0, total, IMAGES_AT_A_TIME):
            block = slice(first, min(first + IMAGES_AT_A_TIME, total))
            insertion, deletion = _courses(scorer, batch, block)
            yield _curves(scorer, insertion), _curves(scorer, deletion)
            bar.update(block.stop - first)
            if progress is not None:
                progress(block.stop, total)


def _curves(scorer: _Scorer, course: Course) -> Curves:
    if scorer.steps == "adaptive":
        return adaptive_curves(scorer.predict, course, scorer.batch_size)
    return fixed_curves(scorer.predict, course, scorer.steps, scorer.batch_size)


def _courses(scorer: _Scorer, batch: _Batch, block: slice) -> tuple[Course, Course]:
    """Insertion and deletion of some images."""
    part = batch.part(block)
    images = part.images.to(scorer.device)
    full = Seen(images, part.probabilities.to(scorer.device))
    ranks = saliency_ranks(upsampled(part.attributions.to(scorer.device).float(), (images.shape[2], images.shape[3])))
    # Made on the CPU: a GPU may convolve in TF32, and the substrate is to be the same picture everywhere.
    partners = None if part.partners is None else batch.images[part.partners]
    pictures = {name: substrate_pictures(name, part.images, partners) for name in scorer.substrates}
    seen = {name: see(scorer.predict, found.to(scorer.device), scorer.batch_size) for name, found in pictures.items()}
    into, out_of = (_between(name, full, seen[name]) for name in scorer.substrates)
    targets = part.targets.to(scorer.device)
    start, finish = (seen[name] for name in scorer.substrates)
    return Course(start, full, into(True), ranks, targets), Course(full, finish, out_of(False), ranks, targets)


def _between(name: str, full: Seen, substrate: Seen) -> Callable[[bool], Between]:
    """What lies between image and substrate, when inserting and when deleting."""
    if name in IMPUTERS:
        return lambda inserting: imputed(full.pixels, IMPUTERS[name], inserting)
    ends = (full.pixels, substrate.pixels)
    return lambda inserting: exchanged(*(ends[::-1] if inserting else ends))


def _disagreement(scorer: _Scorer, classifier: Classifier, precision: str, batch: _Batch) -> float:
    """The largest difference from fp32 at the ends and quarters of both curves of the first images."""
    if resolve_precision(scorer.device, precision) == "fp32":
        return 0.0
    few = batch.part(slice(0, AGREEMENT_IMAGES))
    coarse = replace(scorer, steps=AGREEMENT_STEPS)
    with scoring(classifier, "fp32") as exact:
        exactly = replace(coarse, predict=exact)
        curves = [
            next(_blocks(each, _given(each, few.images, few.attributions, few.targets), None))
            for each in (coarse, exactly)
        ]
    return max(float((ours.probabilities - true.probabilities).abs().max()) for ours, true in zip(*curves, strict=True))


def _last(curves: Curves) -> Float[Tensor, " n"]:
    return curves.probabilities[:, -1]


def _check_attributions(attributions: Tensor, images: Tensor) -> None:
    if attributions.ndim != 3 or len(attributions) != len(images) or not attributions.numel():
        raise StudyError(
            f"attributions: {list(attributions.shape)} where [n, rows, columns] for {len(images)} images is wanted"
        )
    if (bad := first_not_finite(attributions)) is not None:
        raise StudyError(f"attributions: map {bad} holds NaN or infinite values, which have no rank; explain it anew")


def _check_protocol(
    steps: Steps, names: tuple[str, str], precision: str, batch_size: int | str, images: Tensor
) -> None:
    if unknown := [name for name in names if name not in NAMES]:
        raise StudyError(f"substrates: unknown substrate {unknown[0]!r}; choose from {', '.join(NAMES)}")
    if ANOTHER_IMAGE in names and len(images) < 2:
        raise StudyError("substrates: another_image needs two images or more")
    if precision not in PRECISIONS:
        raise StudyError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if batch_size != "auto" and not (isinstance(batch_size, int) and batch_size >= 1):
        raise StudyError(f"batch_size: {batch_size!r} is neither auto nor a number of images")
    if steps == "adaptive":
        return
    try:
        pixel_counts(images[0, 0].numel(), steps)
    except (ValueError, TypeError) as error:
        raise StudyError(f"{error}; or choose adaptive") from None
