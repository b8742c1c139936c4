"""One cell's test images, explained: which images, for which classes, and the files that hold the maps."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Int64

from pipeline.data.prepared import Prepared
from pipeline.device import set_threads, settled_device
from pipeline.explain import METHODS
from pipeline.explain.baselines import oracle_maps, swapped_partners
from pipeline.explain.explainer import Explainer, Job, Maps, classify_shard, explain_shard, load_explainer
from pipeline.files import sha256_of, whole_folder
from pipeline.models.family import family_of
from pipeline.packages import package_versions
from pipeline.params import ExplainParams, MethodParams, StudyParams
from pipeline.records import ATTRIBUTIONS, LINEAGE, ORACLE, SWAPPED, Explanation, HeatmapLineage, Receipt
from pipeline.seeds import cell_seed
from pipeline.shards import IN_MEMORY, Scratch, Shards, adder, slices

logger = logging.getLogger(__name__)

# Of a shard, about: a few seconds' work on a GPU and at most minutes on a CPU, so that a kill costs little.
CLASSIFIED_AT_A_TIME = 256
EXPLAINED_AT_A_TIME = 32


@dataclass(frozen=True)
class Task:
    """What to explain: positions in the prepared set and the class each is explained for.

    The first `images` entries are the images and their predicted classes; after them come the misclassified images
    again, with their true classes.
    """

    rows: Int64[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"]
    images: int

    @property
    def misclassified(self) -> int:
        return len(self.rows) - self.images


def explain_cell(
    prepared_dir: Path,
    model_dir: Path,
    heatmap_dir: Path,
    dataset: str,
    model: str,
    params: ExplainParams,
    study: StudyParams,
    progress: Callable[[int, int], None],
    scratch: Scratch = IN_MEMORY,
) -> Explanation:
    """Write attributions.npz and explanation.json into `heatmap_dir`; the latter is returned.

    Every chosen test image is explained for the class predicted, and a misclassified one for its true class too.

    Args:
        progress: told how many maps of each method are done, and of how many.

    Raises:
        StudyError: checkpoint, receipt and prepared set do not belong together, or a method does not fit the model.
    """
    set_threads(study.threads)
    receipt = Receipt.read(model_dir)
    seed, device = cell_seed(study.seed, dataset), settled_device(study.device)
    hashes = receipt.checkpoint_sha256, receipt.data_sha256
    job = Job(prepared_dir, model_dir, params, seed, device, study.threads, *hashes)
    explainer = load_explainer(job if scratch.is_here else replace(job, device="cpu"))
    shards = Shards(scratch, job.key)

    rows = choose_rows(explainer.prepared, params.max_images, seed)
    probabilities = _probabilities(shards, job, rows)
    task = _task(rows, probabilities.argmax(axis=1), _labels(explainer.prepared)[rows])
    logger.info("%s-%s: explaining %d images, %d misclassified", dataset, model, task.images, task.misclassified)
    maps = _explain(shards, job, task, progress)
    maps |= _swapped(explainer, task, maps) | _oracle(explainer, task)
    _tell_blank_maps(maps, f"{dataset}-{model}")

    arrays = _arrays(task, maps, probabilities) | {LINEAGE: np.array(_lineage(receipt).text())}
    with whole_folder(heatmap_dir) as folder:
        np.savez(folder / ATTRIBUTIONS, **arrays)  # type: ignore[arg-type]  # numpy's stub
        explanation = _record(explainer, receipt, task, maps, sha256_of(folder / ATTRIBUTIONS), study.seed)
        explanation.write(folder)
    shards.clear()
    load_explainer.cache_clear()
    return explanation


def choose_rows(prepared: Prepared, max_images: int | None, seed: int) -> Int64[np.ndarray, " n"]:
    """Test rows in order: all of them, or as many as allowed, drawn from the classes in turn.

    The draw knows nothing of the model, so all models of a dataset explain the same images.
    """
    drawn = np.random.default_rng(seed).permutation(prepared.rows("test"))
    labels = pd.Series(_labels(prepared)[drawn])
    turn = labels.groupby(labels).cumcount()
    return np.sort(drawn[np.lexsort((labels, turn))[:max_images]])


def _labels(prepared: Prepared) -> Int64[np.ndarray, " n"]:
    return prepared.index["label"].to_numpy(dtype=np.int64)


def _probabilities(shards: Shards, job: Job, rows: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n classes"]:
    calls = [(job, rows[part]) for part in slices(len(rows), job.params.batch_size, CLASSIFIED_AT_A_TIME)]
    found = shards.run("classify", classify_shard, calls, done=lambda number: None)
    return np.concatenate([part["probabilities"] for part in found])


def _task(rows: Int64[np.ndarray, " n"], predicted: Int64[np.ndarray, " n"], labels: Int64[np.ndarray, " n"]) -> Task:
    wrong = predicted != labels
    return Task(np.concatenate([rows, rows[wrong]]), np.concatenate([predicted, labels[wrong]]), len(rows))


def _explain(shards: Shards, job: Job, task: Task, progress: Callable[[int, int], None]) -> Maps:
    parts = slices(len(task.rows), job.params.batch_size, EXPLAINED_AT_A_TIME)
    calls = [(job, task.rows[part], task.targets[part]) for part in parts]
    told = adder(progress, len(task.rows), "map")
    found = shards.run("explain", explain_shard, calls, done=lambda number: told(len(calls[number][1])))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _swapped(explainer: Explainer, task: Task, maps: Maps) -> Maps:
    """Of each method the map that another image got for its predicted class; nothing where there is one image."""
    if task.images < 2:
        return {}
    of_image = swapped_partners(task.rows[: task.images], task.targets[: task.images], explainer.seed)
    again = np.searchsorted(task.rows[: task.images], task.rows[task.images :])
    partners = np.concatenate([of_image, of_image[again]])
    return {f"{SWAPPED}{name}": maps[name][partners] for name in explainer.methods}


def _oracle(explainer: Explainer, task: Task) -> Maps:
    """The masks on Grad-CAM's grid; blank where an image has none."""
    if explainer.prepared.masks is None:
        return {}
    masks = torch.from_numpy(explainer.prepared.masks[task.rows] > 0)
    cam_grid = family_of(explainer.classifier.backbone, explainer.settings.cam_layer).cam_grid
    return {ORACLE: oracle_maps(masks, cam_grid).numpy()}


def _tell_blank_maps(maps: Maps, cell: str) -> None:
    for name in [name for name in maps if name in METHODS]:
        if blank := np.count_nonzero(maps[name].max(axis=(1, 2)) <= 0):
            logger.warning(
                "%s: %d of %d maps of %s are blank: no positive evidence", cell, blank, len(maps[name]), name
            )


def _arrays(task: Task, maps: Maps, probabilities: Float32[np.ndarray, "images classes"]) -> dict[str, np.ndarray]:
    rules = {"predicted": slice(None, task.images), "true": slice(task.images, None)}
    arrays = {"probabilities": probabilities}
    for rule, part in rules.items():
        arrays |= {f"rows_{rule}": task.rows[part], f"targets_{rule}": task.targets[part]}
        arrays |= {f"{name}/{rule}": map_[part] for name, map_ in maps.items()}
    return arrays


def _lineage(receipt: Receipt) -> HeatmapLineage:
    return HeatmapLineage(
        dataset=receipt.dataset,
        model=receipt.model,
        checkpoint_sha256=receipt.checkpoint_sha256,
        data_sha256=receipt.data_sha256,
    )


def _record(
    explainer: Explainer, receipt: Receipt, task: Task, maps: Maps, attributions_sha256: str, seed: int
) -> Explanation:
    return Explanation(
        dataset=receipt.dataset,
        model=receipt.model,
        checkpoint_sha256=receipt.checkpoint_sha256,
        data_sha256=receipt.data_sha256,
        attributions_sha256=attributions_sha256,
        methods=explainer.methods,
        baselines=tuple(name for name in maps if name not in METHODS),
        grids={name: map_.shape[1:] for name, map_ in maps.items()},
        cam_layer=family_of(explainer.classifier.backbone, explainer.settings.cam_layer).cam_layer,
        settings=explainer.settings.model_dump(include=set(MethodParams.model_fields)),
        images=task.images,
        misclassified=task.misclassified,
        seed=seed,
        packages=package_versions(),
    )
