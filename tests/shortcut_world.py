"""A small study of phantoms, with or without a class-coloured tag in the corner, made by the study's own functions."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.data import get
from pipeline.data.fetching.source import fetch_source
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.explain.attribution import explain_cell
from pipeline.metrics.classification import classify_cell
from pipeline.metrics.scoring import score_cell
from pipeline.params import Params, load_params
from pipeline.training import fit_cell
from pipeline.trust_checks import check_cell
from tests.once import made_once

ROOT = Path(__file__).parents[1]
DATASET, MODEL = "busi", "deit"
WIDTH_PX = 80  # of the phantoms; half of the embedded study's
PROCESSES = 2  # that draw and read images


def world(factory: pytest.TempPathFactory, shortcut_fraction: float) -> Path:
    """The data folder of a finished cell, busi by deit; made once for all tests. Do not change it.

    Args:
        shortcut_fraction: share of the images that carry the tag; the scenes are the same for any.
    """
    params = one_cell(shortcut_fraction)
    return made_once(factory, f"shortcut_{shortcut_fraction}", lambda folder: make_world(folder, params)) / "data"


def one_cell(shortcut_fraction: float) -> Params:
    """The parameters of `world`."""
    return world_params((DATASET,), (MODEL,), shortcut_fraction, images_per_class=120, epochs=5)


def world_params(
    datasets: Sequence[str], models: Sequence[str], shortcut_fraction: float, images_per_class: int, epochs: int
) -> Params:
    """The embedded study's parameters with fewer and smaller images, steps and epochs, and nothing else planted."""
    params = load_params(ROOT / "params.yaml")
    planted = {"near_copy_fraction": 0.0, "label_conflicts": 0, "shortcut_fraction": shortcut_fraction}
    drawn = planted | {"images_per_class": images_per_class, "width_px": WIDTH_PX}
    changes: dict[str, dict[str, object]] = {
        "study": {"datasets": tuple(datasets), "models": tuple(models), "device": "cpu", "threads": 1},
        "phantom": {name: getattr(params.phantom, name).model_copy(update=drawn) for name in datasets},
        "finetune": {"epochs": epochs, "patience": epochs},
        "score": {"steps": 4, "variants": {}, "bootstrap_resamples": 100},
    }
    sections = {name: getattr(params, name).model_copy(update=each) for name, each in changes.items()}
    shipped = {
        name: each.model_copy(update={"weights": str(ROOT / each.weights)}) for name, each in params.models.items()
    }
    return params.model_copy(update={**sections, "models": shipped})


def make_world(folder: Path, params: Params) -> Path:
    """All that the report of a study reads, under `folder`/data, which is returned."""
    data = folder / "data"
    for dataset in params.study.datasets:
        make_images(folder / "raw" / dataset, data / "prepared" / dataset, dataset, params)
        for model in params.study.models:
            make_cell(data, dataset, model, params)
    return data


def make_images(raw: Path, prepared: Path, dataset: str, params: Params) -> None:
    spec = get(dataset)
    fetch_source(spec, params.datasets[dataset], params.phantom, raw, PROCESSES, _silent, "datasets")
    arguments = (spec, params.datasets[dataset], params.preprocess, params.study.seed)
    prepare_dataset(*arguments, raw, prepared, PROCESSES, _silent)


def make_cell(data: Path, dataset: str, model: str, params: Params) -> None:
    prepared, trained, explained, scored = folders(data, dataset, model)
    state = data.parent / "state" / f"{dataset}-{model}"
    recipe = (model, params.models[model], params.finetune, params.study)
    fit_cell(prepared, trained, state, *recipe, _silent)
    classify_cell(prepared, trained, params.finetune.batch_size, params.study)
    explain_cell(prepared, trained, explained, dataset, model, params.explain, params.study, _silent)
    score_cell(prepared, trained, explained, scored, dataset, model, params.score, params.study, _silent)
    check(data, dataset, model, scored, params)


def check(data: Path, dataset: str, model: str, into: Path, params: Params) -> None:
    """The trust checks of a cell that is otherwise finished, their files written to the folder."""
    arguments = (params.score.trust_images, params.explain.batch_size, params.study, _silent)
    check_cell(*folders(data, dataset, model)[:3], into, *arguments)


def folders(data: Path, dataset: str, model: str) -> tuple[Path, Path, Path, Path]:
    """Of the prepared set, the model, the heatmaps and the scores."""
    return data / "prepared" / dataset, *(data / stage / dataset / model for stage in ("models", "heatmaps", "scores"))


def _silent(done: int, total: int) -> None:
    pass
