"""One cell's curves: the images with their maps, the model's calibration, and a protocol drawn over all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.data.prepared import Prepared, to_tensor
from pipeline.device import in_batches_that_fit, resolve_precision
from pipeline.metrics.adaptive import Curves, joined
from pipeline.metrics.calibration import expected_calibration_error, fit_temperature
from pipeline.metrics.engine import (
    AGREEMENT_IMAGES,
    Engine,
    Protocol,
    Scene,
    Scorer,
    curves_of,
    disagreement,
    scene_of,
    scorer_of,
)
from pipeline.metrics.explained import Explained
from pipeline.metrics.maps import blocks
from pipeline.metrics.substrates import ANOTHER_IMAGE, partner_positions
from pipeline.models.build import Classifier

CALIBRATION_BATCH = 256

CellCurves = dict[str, Curves]  # by `<method>/<rule>/<curve>`, one curve for each image of the rule


@dataclass(frozen=True)
class Subject:
    """What is scored: a model, the images, and their maps by target rule."""

    classifier: Classifier
    prepared: Prepared
    explained: list[Explained]
    device: torch.device

    @property
    def rows(self) -> int:
        """Images to score; a misclassified one counts once for each rule."""
        return sum(len(part.rows) for part in self.explained)

    def images(self, rows: Int64[np.ndarray, " n"]) -> Float[Tensor, "n 3 s s"]:
        return to_tensor(self.prepared.pixels(rows))

    def scene(self, scorer: Scorer, part: Explained, block: slice) -> Scene:
        """Of some images of a part."""
        partners = None
        if ANOTHER_IMAGE in scorer.protocol.substrates.values():
            partners = self.images(self.partner_rows(part, block))
        targets = torch.from_numpy(part.targets[block])
        return scene_of(scorer, self.images(part.rows[block]), targets, partners)

    def partner_rows(self, part: Explained, block: slice) -> Int64[np.ndarray, " n"]:
        """Another explained image for each, predicted to be something else than the target."""
        everyone = self.explained[0]
        positions = np.searchsorted(everyone.rows, part.rows[block]).astype(np.int64)
        return everyone.rows[partner_positions(everyone.targets, positions, part.targets[block])]


@dataclass(frozen=True)
class Drawn:
    """The curves of a cell by one protocol, and what they were drawn with."""

    protocol: Protocol
    temperature: float
    precision: str
    disagreement: float
    passes: int  # forward images in all
    curves: CellCurves


def calibrate(subject: Subject) -> dict[str, float]:
    """The temperature that fits the validation images, and the test images' calibration error without and with it."""
    logits, labels = _logits(subject, "validation")
    temperature = fit_temperature(logits, labels)
    logits, labels = _logits(subject, "test")
    return {
        "temperature": temperature,
        "error": expected_calibration_error(logits.softmax(dim=1), labels),
        "error_calibrated": expected_calibration_error((logits / temperature).softmax(dim=1), labels),
    }


def draw(subject: Subject, protocol: Protocol, engine: Engine, done: Callable[[int], None]) -> Drawn:
    """The curves of all maps of a cell by one protocol.

    Args:
        done: told how many more images are done.
    """
    with scorer_of(subject.classifier, protocol, engine, subject.images(subject.explained[0].rows[:1])) as scorer:
        curves = _curves(subject, scorer, done)
        apart = _disagreement(subject, scorer, engine)
    precision = resolve_precision(subject.device, engine.precision)
    seen = subject.rows * (1 + protocol.substrates_to_see)
    between = sum(int((found.passes - 2).sum()) for found in curves.values())
    return Drawn(protocol, engine.temperature, precision, apart, seen + between, curves)


def _curves(subject: Subject, scorer: Scorer, done: Callable[[int], None]) -> CellCurves:
    parts: dict[str, list[Curves]] = {}
    for part in subject.explained:
        for block in blocks(len(part.rows)):
            scene = subject.scene(scorer, part, block)
            for method, maps in part.maps.items():
                for curve, found in curves_of(scorer, scene, torch.from_numpy(maps[block])).items():
                    parts.setdefault(f"{method}/{part.rule}/{curve}", []).append(found)
            done(block.stop - block.start)
    return {name: joined(found) for name, found in parts.items()}


def _disagreement(subject: Subject, scorer: Scorer, engine: Engine) -> float:
    """On the first maps of the first method."""
    part, few = subject.explained[0], slice(0, AGREEMENT_IMAGES)
    maps = torch.from_numpy(next(iter(part.maps.values()))[few])
    return disagreement(scorer, subject.classifier, engine, lambda each: subject.scene(each, part, few), maps)


def _logits(subject: Subject, split: str) -> tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]]:
    rows = subject.prepared.rows(split)
    with torch.inference_mode():
        run = lambda part: subject.classifier(subject.images(rows[part]).to(subject.device)).cpu()  # noqa: E731
        logits = torch.cat(list(in_batches_that_fit(run, len(rows), CALIBRATION_BATCH)))
    return logits, torch.from_numpy(subject.prepared.index["label"].to_numpy(dtype=np.int64)[rows])
