"""One cell's curves: the images with their maps, the model's calibration, and a protocol drawn over all of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.data.prepared import Prepared, load_prepared, to_tensor
from pipeline.device import in_batches_that_fit, resolve_device, resolve_precision, set_threads
from pipeline.errors import StudyError
from pipeline.files import sha256_of
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
from pipeline.metrics.explained import Explained, load_explained
from pipeline.metrics.maps import blocks
from pipeline.metrics.substrates import ANOTHER_IMAGE, partner_positions
from pipeline.models.build import Classifier
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, Explanation, PreparedSet, Receipt
from pipeline.shards import Arrays, Shards, slices

CALIBRATION_BATCH = 256

Done = Callable[[int], None]
CellCurves = dict[str, Curves]  # by `<method>/<rule>/<curve>`, one curve for each image of the rule


@dataclass(frozen=True)
class Subject:
    """What is scored: a model, the images, and their maps by target rule."""

    classifier: Classifier
    prepared: Prepared
    explained: list[Explained]
    device: torch.device

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
class Job:
    """All that decides the curves of a cell's maps, as any process of the same project can load it."""

    prepared_dir: Path
    model_dir: Path
    heatmap_dir: Path
    device: str
    threads: int
    checkpoint_sha256: str
    attributions_sha256: str


@dataclass(frozen=True)
class Drawn:
    """The curves of a cell by one protocol, and what they were drawn with."""

    protocol: Protocol
    temperature: float
    precision: str
    disagreement: float
    passes: int  # forward images in all
    curves: CellCurves


@lru_cache(maxsize=1)
def load_subject(job: Job) -> Subject:
    """The model in memory, on its device, and the maps; kept for the next shard.

    Raises:
        StudyError: the files are not those of the job.
    """
    explained = checked_explanation(job.prepared_dir, job.model_dir, job.heatmap_dir)
    hashes = explained.checkpoint_sha256, explained.attributions_sha256
    if hashes != (job.checkpoint_sha256, job.attributions_sha256):
        raise StudyError(f"{job.heatmap_dir}: not the heatmaps of the machine that asked; let both see the same folder")
    device = resolve_device(job.device)
    classifier, _ = load_checkpoint(job.model_dir / CHECKPOINT, str(device))
    maps = load_explained(job.heatmap_dir / ATTRIBUTIONS)
    return Subject(classifier, load_prepared(job.prepared_dir), maps, device)


def checked_explanation(prepared_dir: Path, model_dir: Path, heatmap_dir: Path) -> Explanation:
    """The record of the heatmaps, once prepared set, checkpoint and arrays are known to be those it speaks of."""
    receipt, explanation = Receipt.read(model_dir), Explanation.read(heatmap_dir)
    checkpoint, arrays = model_dir / CHECKPOINT, heatmap_dir / ATTRIBUTIONS
    for path in (checkpoint, arrays):
        if not path.is_file():
            raise StudyError(f"{path}: no such file; run `dvc repro` to make it")
    if not sha256_of(checkpoint) == receipt.checkpoint_sha256 == explanation.checkpoint_sha256:
        raise StudyError(f"{checkpoint}: not the checkpoint that {heatmap_dir} explains; run `dvc repro`")
    if sha256_of(arrays) != explanation.attributions_sha256:
        raise StudyError(f"{arrays}: not the arrays of the explanation.json beside it; run `dvc repro -f` to make both")
    if PreparedSet.read(prepared_dir).data_sha256 != explanation.data_sha256:
        raise StudyError(f"{prepared_dir}: not the set whose images {heatmap_dir} explains; run `dvc repro`")
    return explanation


def calibrate(shards: Shards, job: Job, prepared: Prepared) -> dict[str, float]:
    """The temperature that fits the validation images, and the test images' calibration error without and with it."""
    logits, labels = _logits(shards, job, prepared, "validation")
    temperature = fit_temperature(logits, labels)
    logits, labels = _logits(shards, job, prepared, "test")
    return {
        "temperature": temperature,
        "ece": expected_calibration_error(logits.softmax(dim=1), labels),
        "ece_calibrated": expected_calibration_error((logits / temperature).softmax(dim=1), labels),
    }


def logits_shard(job: Job, rows: Int64[np.ndarray, " n"]) -> Arrays:
    """Of one calibration batch."""
    set_threads(job.threads)
    subject = load_subject(job)
    with torch.inference_mode():
        run = lambda part: subject.classifier(subject.images(rows[part]).to(subject.device)).cpu()  # noqa: E731
        return {"logits": torch.cat(list(in_batches_that_fit(run, len(rows), CALIBRATION_BATCH))).numpy()}


def _logits(
    shards: Shards, job: Job, prepared: Prepared, split: str
) -> tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]]:
    rows = prepared.rows(split)
    calls = [(job, rows[part]) for part in slices(len(rows), CALIBRATION_BATCH, CALIBRATION_BATCH)]
    found = shards.run(f"logits-{split}", logits_shard, calls, done=lambda number: None)
    logits = torch.cat([torch.from_numpy(part["logits"]) for part in found])
    return logits, torch.from_numpy(prepared.index["label"].to_numpy(dtype=np.int64)[rows])


def draw(
    shards: Shards, job: Job, explained: list[Explained], name: str, protocol: Protocol, engine: Engine, done: Done
) -> Drawn:
    """The curves of all maps of a cell by one protocol, that of this name.

    Args:
        done: told how many more images are done.
    """
    parts = [(number, block) for number, part in enumerate(explained) for block in blocks(len(part.rows))]
    calls = [(job, protocol, engine, *part) for part in parts]
    told = lambda number: done(parts[number][1].stop - parts[number][1].start)  # noqa: E731
    found = shards.run(f"curves-{name}", curves_shard, calls, told)
    curves = joined_by_name([curves_in(arrays) for arrays in found])
    seen = sum(len(part.rows) for part in explained) * (1 + protocol.substrates_to_see)
    between = sum(int((each.passes - 2).sum()) for each in curves.values())
    precision, apart = str(found[0]["precision"]), float(found[0]["disagreement"])
    return Drawn(protocol, engine.temperature, precision, apart, seen + between, curves)


def curves_shard(job: Job, protocol: Protocol, engine: Engine, part: int, block: slice) -> Arrays:
    """The curves of some images of a part, and with the first of all, how far they are from those in fp32."""
    set_threads(job.threads)
    subject = load_subject(job)
    example = subject.images(subject.explained[0].rows[:1])
    with scorer_of(subject.classifier, protocol, engine, example) as scorer:
        arrays = arrays_of(_curves(subject, scorer, subject.explained[part], block))
        if part == block.start == 0:
            arrays["disagreement"] = np.array(_disagreement(subject, scorer, engine))
    return {**arrays, "precision": np.array(resolve_precision(subject.device, engine.precision))}


def _curves(subject: Subject, scorer: Scorer, part: Explained, block: slice) -> CellCurves:
    scene = subject.scene(scorer, part, block)
    return {
        f"{method}/{part.rule}/{curve}": found
        for method, maps in part.maps.items()
        for curve, found in curves_of(scorer, scene, torch.from_numpy(maps[block])).items()
    }


def _disagreement(subject: Subject, scorer: Scorer, engine: Engine) -> float:
    """On the first maps of the first method."""
    part, few = subject.explained[0], slice(0, AGREEMENT_IMAGES)
    maps = torch.from_numpy(next(iter(part.maps.values()))[few])
    return disagreement(scorer, subject.classifier, engine, lambda each: subject.scene(each, part, few), maps)


def joined_by_name(parts: Sequence[CellCurves]) -> CellCurves:
    """One part after another; each has some of the names."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: joined([part[name] for part in parts if name in part]) for name in names}


def arrays_of(curves: CellCurves) -> Arrays:
    """`<name>/<field of Curves>`."""
    return {
        f"{name}/{column.name}": np.asarray(getattr(each, column.name))
        for name, each in curves.items()
        for column in fields(Curves)
    }


def curves_in(arrays: Arrays) -> CellCurves:
    """What `arrays_of` made arrays of."""
    names = dict.fromkeys(key.rpartition("/")[0] for key in arrays if "/" in key)
    return {
        name: Curves(
            steps=int(arrays[f"{name}/steps"]),
            **{
                column.name: torch.from_numpy(arrays[f"{name}/{column.name}"])
                for column in fields(Curves)
                if column.name != "steps"
            },
        )
        for name in names
    }
