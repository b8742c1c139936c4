"""A job of explaining, as any process of the same project can load it, and the shards that it consists of."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from pipeline.data.prepared import Prepared, load_prepared, to_tensor
from pipeline.device import resolve_device, set_threads
from pipeline.errors import StudyError
from pipeline.explain import check_methods, explain_batch
from pipeline.explain.baselines import baseline_maps
from pipeline.files import sha256_of
from pipeline.keys import key_of
from pipeline.models.build import Classifier
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.family import family_of
from pipeline.params import ExplainParams, MethodParams
from pipeline.records import CHECKPOINT, Receipt
from pipeline.shards import Arrays

Maps = dict[str, Float32[np.ndarray, "n _ _"]]


@dataclass(frozen=True)
class Job:
    """All that decides the maps of a row and a target."""

    prepared_dir: Path
    model_dir: Path
    params: ExplainParams
    seed: int
    device: str
    threads: int
    checkpoint_sha256: str
    data_sha256: str

    @property
    def key(self) -> str:
        return key_of(
            {
                "checkpoint": self.checkpoint_sha256,
                "data": self.data_sha256,
                "params": self.params.model_dump(mode="json"),
                "seed": self.seed,
                "device": torch.device(self.device).type,
                "threads": self.threads,
            }
        )


@dataclass(frozen=True)
class Explainer:
    """A job, loaded."""

    classifier: Classifier
    prepared: Prepared
    methods: tuple[str, ...]
    settings: MethodParams
    seed: int
    device: torch.device

    def images(self, rows: Int64[np.ndarray, " n"]) -> Float[Tensor, "n 3 s s"]:
        return to_tensor(self.prepared.pixels(rows)).to(self.device)


@lru_cache(maxsize=1)
def load_explainer(job: Job) -> Explainer:
    """The model in memory, on its device; kept for the next shard.

    Raises:
        StudyError: the files are not those of the job, or a method does not fit the model.
    """
    prepared = load_prepared(job.prepared_dir)
    receipt = _checked_receipt(job.model_dir, job.prepared_dir, prepared)
    if (receipt.checkpoint_sha256, receipt.data_sha256) != (job.checkpoint_sha256, job.data_sha256):
        raise StudyError(f"{job.model_dir}: not the model of the machine that asked; let both see the same folder")
    device = resolve_device(job.device)
    classifier, _ = load_checkpoint(job.model_dir / CHECKPOINT, str(device))
    check_methods(job.params.methods, family_of(classifier.backbone, job.params.cam_layer), job.params)
    return Explainer(classifier, prepared, job.params.methods, job.params, job.seed, device)


def classify_shard(job: Job, rows: Int64[np.ndarray, " n"]) -> Arrays:
    """Probabilities of all classes for each of the rows."""
    set_threads(job.threads)
    explainer = load_explainer(job)
    with torch.inference_mode():
        logits = [explainer.classifier(explainer.images(batch)) for batch in _batches(rows, job.params.batch_size)]
        return {"probabilities": torch.cat(logits).softmax(dim=1).cpu().numpy()}


def explain_shard(job: Job, rows: Int64[np.ndarray, " n"], targets: Int64[np.ndarray, " n"]) -> Arrays:
    """The maps of each row for its target, by name."""
    set_threads(job.threads)
    explainer, size = load_explainer(job), job.params.batch_size
    parts = [
        _batch_maps(explainer, *batch) for batch in zip(_batches(rows, size), _batches(targets, size), strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _checked_receipt(model_dir: Path, prepared_dir: Path, prepared: Prepared) -> Receipt:
    receipt = Receipt.read(model_dir)
    checkpoint = model_dir / CHECKPOINT
    if not checkpoint.is_file():
        raise StudyError(f"{checkpoint}: no such file; run `dvc repro` to make it")
    if sha256_of(checkpoint) != receipt.checkpoint_sha256:
        raise StudyError(f"{checkpoint}: not the checkpoint of the receipt beside it; run `dvc repro -f` to make both")
    if prepared.about.data_sha256 != receipt.data_sha256 or prepared.about.classes != receipt.classes:
        raise StudyError(f"{prepared_dir}: not the set that {model_dir} was fine-tuned on; run `dvc repro`")
    return receipt


def _batches(values: Int64[np.ndarray, " n"], size: int) -> Iterator[Int64[np.ndarray, " m"]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _batch_maps(explainer: Explainer, rows: Int64[np.ndarray, " n"], targets: Int64[np.ndarray, " n"]) -> Maps:
    images = explainer.images(rows)
    classes = torch.from_numpy(targets).to(explainer.device)
    maps = explain_batch(explainer.classifier, images, classes, explainer.methods, explainer.settings)
    grids = [(map_.shape[1], map_.shape[2]) for map_ in [*maps.values(), images[:, 0]]]
    cam_grid = family_of(explainer.classifier.backbone, explainer.settings.cam_layer).cam_grid
    maps |= baseline_maps(images, rows, cam_grid, grids, explainer.seed)
    return {name: map_.cpu().numpy() for name, map_ in maps.items()}
