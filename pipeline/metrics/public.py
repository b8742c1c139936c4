"""`insertion_deletion`: any timm model, images and attributions from any source in; both curves and areas out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.device import in_batches_that_fit, resolve_precision
from pipeline.errors import StudyError
from pipeline.metrics.adaptive import Curves, joined
from pipeline.metrics.engine import (
    AGREEMENT_IMAGES,
    Engine,
    Protocol,
    Scene,
    Scorer,
    Steps,
    check_protocol,
    curves_of,
    disagreement,
    scene_of,
    scorer_of,
)
from pipeline.metrics.faithfulness import TIE_RULE, normalised_auc
from pipeline.metrics.maps import blocks
from pipeline.metrics.substrates import ANOTHER_IMAGE, partner_positions
from pipeline.models.build import as_classifier
from pipeline.models.inputs import check_images, checked_targets, first_not_finite, image_size

PRECISIONS = ("fp32", "bf16", "auto")


@dataclass(frozen=True, kw_only=True)
class Settings(Protocol):
    """What the figures depend on, to be stored with them."""

    precision: str
    temperature: float
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
        shared = 3 - self.settings.substrates_to_see  # the image, and the substrate where both curves have the same
        return int(self.insertion.passes.sum() + self.deletion.passes.sum()) - shared * len(self.targets)


def insertion_deletion(
    model: nn.Module,
    images: Tensor,
    attributions: Tensor,
    targets: Tensor | Sequence[int] | None = None,
    steps: Steps = 224,
    substrates: tuple[str, str] = ("blur", "zero"),
    unit_px: int = 1,
    order: str = "most_relevant_first",
    temperature: float = 1.0,
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
        unit_px: side of the squares that change at a time, such as a model's patch; 1 changes pixels.
        order: most_relevant_first, or least_relevant_first, where a low insertion and a high deletion AUC are good.
        temperature: divides the logits, see `pipeline.metrics.calibration.fit_temperature`.
        precision: fp32, bf16, or auto, which is bf16 on a GPU that has it.
        batch_size: perturbed images at a time; `auto` measures how many fit.
        progress: told how many images are done, and of how many; a bar with the time left is shown on a terminal.

    Raises:
        StudyError: an argument is not as above, or memory does not suffice for one image.
    """
    classifier = as_classifier(model)
    check_images(images, image_size(classifier.backbone))
    _check_attributions(attributions, images)
    insertion_substrate, deletion_substrate = substrates
    protocol = Protocol(
        steps=steps,
        insertion_substrate=insertion_substrate,
        deletion_substrate=deletion_substrate,
        unit_px=unit_px,
        order=order,
    )
    check_protocol(protocol, (images.shape[2], images.shape[3]))
    _check_engine(precision, temperature, batch_size)
    if ANOTHER_IMAGE in substrates and len(images) < 2:
        raise StudyError("substrates: another_image needs two images or more")
    asked = None if targets is None else checked_targets(targets, len(images), classifier.backbone)
    engine = Engine(precision, temperature, batch_size)
    with scorer_of(classifier, protocol, engine, images[:1]) as scorer:
        batch = _given(scorer, images, attributions, asked)
        insertion, deletion = (joined(parts) for parts in zip(*_in_blocks(scorer, batch, progress), strict=True))
        few, anew = slice(0, AGREEMENT_IMAGES), replace(batch, probabilities=None)
        apart = disagreement(scorer, classifier, engine, lambda each: anew.scene(each, few), attributions[few])
    return InsertionDeletion(
        insertion,
        deletion,
        batch.targets,
        probability_full=insertion.probabilities[:, -1],
        probability_insertion_substrate=insertion.probabilities[:, 0],
        probability_deletion_substrate=deletion.probabilities[:, -1],
        disagreement=apart,
        settings=Settings(
            **asdict(protocol),
            precision=resolve_precision(scorer.device, precision),
            temperature=temperature,
            batch_size=scorer.batch_size,
        ),
    )


@dataclass(frozen=True)
class _Batch:
    """Images with all that their curves need, on the CPU."""

    images: Float[Tensor, "n 3 h w"]
    attributions: Float[Tensor, "n rows columns"]
    probabilities: Float[Tensor, "n classes"] | None  # None: to be asked
    targets: Int64[Tensor, " n"]
    partners: Int64[Tensor, " n"] | None

    def scene(self, scorer: Scorer, block: slice) -> Scene:
        partners = None if self.partners is None else self.images[self.partners[block]]
        known = None if self.probabilities is None else self.probabilities[block].to(scorer.device)
        return scene_of(scorer, self.images[block], self.targets[block], partners, known)


def _given(
    scorer: Scorer,
    images: Float[Tensor, "n 3 h w"],
    attributions: Float[Tensor, "n rows columns"],
    targets: Int64[Tensor, " n"] | None,
) -> _Batch:
    run = lambda part: scorer.predict(images[part].to(scorer.device)).cpu()  # noqa: E731
    probabilities = torch.cat(list(in_batches_that_fit(run, len(images), scorer.batch_size)))
    targets = probabilities.argmax(dim=1) if targets is None else targets.cpu()
    partners = None
    if ANOTHER_IMAGE in scorer.protocol.substrates.values():
        partners = torch.from_numpy(partner_positions(targets.numpy(), np.arange(len(images)), targets.numpy()))
    return _Batch(images, attributions, probabilities, targets, partners)


def _in_blocks(
    scorer: Scorer, batch: _Batch, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[Curves, Curves]]:
    """Insertion and deletion of some images at a time."""
    total = len(batch.targets)
    with tqdm(total=total, unit="image", disable=None) as bar:
        for block in blocks(total):
            found = curves_of(scorer, batch.scene(scorer, block), batch.attributions[block])
            yield found["insertion"], found["deletion"]
            bar.update(block.stop - block.start)
            if progress is not None:
                progress(block.stop, total)


def _check_attributions(attributions: Tensor, images: Tensor) -> None:
    if attributions.ndim != 3 or len(attributions) != len(images) or not attributions.numel():
        raise StudyError(
            f"attributions: {list(attributions.shape)} where [n, rows, columns] for {len(images)} images is wanted"
        )
    if (bad := first_not_finite(attributions)) is not None:
        raise StudyError(f"attributions: map {bad} holds NaN or infinite values, which have no rank; explain it anew")


def _check_engine(precision: str, temperature: float, batch_size: int | str) -> None:
    if precision not in PRECISIONS:
        raise StudyError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if not temperature > 0:
        raise StudyError(f"temperature: {temperature} is not positive")
    if batch_size != "auto" and not (isinstance(batch_size, int) and batch_size >= 1):
        raise StudyError(f"batch_size: {batch_size!r} is neither auto nor a number of images")
