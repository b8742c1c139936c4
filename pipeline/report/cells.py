"""The files of one cell (dataset, model) as they were left by fine-tuning, explaining and scoring, read and checked."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from pipeline.data.prepared import Prepared
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.records import (
    ATTRIBUTIONS,
    LINEAGE,
    ORACLE,
    SWAPPED,
    Classification,
    Explanation,
    HeatmapLineage,
    Receipt,
    Summary,
    Trust,
    random_twin,
)

TITLES = {
    "gradcam": "Grad-CAM",
    "signed_gradcam": "Signed Grad-CAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
    "gradient_rollout": "Gradient Attention Rollout",
    "cam_rollout": "CAM Rollout",
    "chefer": "Generic attention (Chefer)",
    "attention_rollout": "Attention Rollout",
    "raw_attention": "Last attention",
    "legrad": "LeGrad",
    "integrated_gradients": "Integrated gradients",
    "rise": "RISE",
    "random": "random map",
    "centre": "centre",
    "edge": "edges",
    ORACLE: "mask",
}

# stage -> folder of data/ it fills for a cell, and the files the report reads there
NEEDED = {
    "finetune": ("models", ("receipt.json", "history.csv", "predictions.csv", "classification.json")),
    "explain": ("heatmaps", ("explanation.json", ATTRIBUTIONS)),
    "score": (
        "scores",
        ("summary.json", "scores.csv", "localisation.csv", "curves_mean.csv", "trust.json", "shortcut.csv"),
    ),
}


@dataclass(frozen=True)
class Heatmaps:
    """What attributions.npz holds; a rule is `predicted` or `true`, a key of `attributions` is `<name>/<rule>`."""

    rows: dict[str, Int64[np.ndarray, " n"]]
    targets: dict[str, Int64[np.ndarray, " n"]]
    probabilities: Float[np.ndarray, "n classes"]  # of the rows explained for their predicted class
    attributions: dict[str, Float[np.ndarray, "n h w"]]
    lineage: HeatmapLineage

    def position(self, rule: str, row: int) -> int | None:
        """Where an image stands in the arrays of a rule; None if it was not explained so."""
        found = np.flatnonzero(self.rows[rule] == row)
        return int(found[0]) if len(found) else None

    def predicted_class(self, row: int) -> int:
        return int(self.targets["predicted"][self.rows["predicted"] == row][0])

    def probability(self, row: int, target: int) -> float:
        return float(self.probabilities[self.rows["predicted"] == row, target][0])


@dataclass(frozen=True)
class Cell:
    dataset: str
    model: str
    receipt: Receipt
    classification: Classification
    explanation: Explanation
    summary: Summary
    trust: Trust
    history: pd.DataFrame
    predictions: pd.DataFrame
    scores: pd.DataFrame
    localisation: pd.DataFrame
    shortcut: pd.DataFrame
    mean_curves: pd.DataFrame
    heatmaps: Heatmaps

    @property
    def baselines(self) -> tuple[str, ...]:
        """Named ones first, then the random maps on other methods' grids."""
        return self.explanation.baselines


def load_cells(data_dir: Path, datasets: Iterable[str], models: Iterable[str], seed: int | None = None) -> list[Cell]:
    """Every cell named, dataset by dataset.

    Args:
        seed: that of a repeat, one of `study.seeds`; None for the study's own cells.

    Raises:
        StudyError: a file is absent, or the files of a cell speak of different checkpoints.
    """
    models = tuple(models)
    return [load_cell(data_dir, dataset, model, seed) for dataset in datasets for model in models]


def load_cell(data_dir: Path, dataset: str, model: str, seed: int | None = None) -> Cell:
    """One cell; see `load_cells`."""
    repeat = "" if seed is None else f"seed_{seed}"
    folders = {stage: folder / repeat / dataset / model for stage, folder in stage_folders(data_dir).items()}
    return read_cell(folders, dataset, model, seed)


def stage_folders(top: Path) -> dict[str, Path]:
    """Where each stage's files lie under data/, and under the artifacts of a cell's run."""
    return {stage: top / folder for stage, (folder, _) in NEEDED.items()}


def read_cell(folders: Mapping[str, Path], dataset: str, model: str, seed: int | None = None) -> Cell:
    """The cell whose files lie in `folders`, one for each key of NEEDED; see `load_cells`."""
    _refuse_absent(folders, dataset, model, seed)
    trained, explained, scored = folders["finetune"], folders["explain"], folders["score"]
    cell = Cell(
        dataset=dataset,
        model=model,
        receipt=Receipt.read(trained),
        classification=Classification.read(trained),
        explanation=Explanation.read(explained),
        summary=Summary.read(scored),
        trust=Trust.read(scored),
        history=pd.read_csv(trained / "history.csv"),
        predictions=pd.read_csv(trained / "predictions.csv"),
        scores=pd.read_csv(scored / "scores.csv"),
        localisation=pd.read_csv(scored / "localisation.csv"),
        shortcut=pd.read_csv(scored / "shortcut.csv"),
        mean_curves=pd.read_csv(scored / "curves_mean.csv"),
        heatmaps=load_heatmaps(explained),
    )
    _refuse_mixture(cell, sha256_of(explained / ATTRIBUTIONS), seed)
    return cell


def by_dataset(cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    names = dict.fromkeys(cell.dataset for cell in cells)
    return [(name, [cell for cell in cells if cell.dataset == name]) for name in names]


def load_heatmaps(heatmap_dir: Path) -> Heatmaps:
    """The arrays of attributions.npz."""
    path = heatmap_dir / ATTRIBUTIONS
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    if LINEAGE not in arrays:
        raise StudyError(f"{path}: does not say what it explains; run `dvc repro explain` to make it anew")
    return Heatmaps(
        rows={rule: arrays[f"rows_{rule}"] for rule in ("predicted", "true")},
        targets={rule: arrays[f"targets_{rule}"] for rule in ("predicted", "true")},
        probabilities=arrays["probabilities"],
        attributions={name: array for name, array in arrays.items() if "/" in name},
        lineage=HeatmapLineage.model_validate_json(str(arrays[LINEAGE])),
    )


def refuse_other_images(prepared: Prepared, explanation: Explanation) -> None:
    """Rows mean nothing on another prepared set than the one explained."""
    if prepared.about.data_sha256 != explanation.data_sha256:
        raise StudyError(
            f"{explanation.dataset}/{explanation.model}: explained on other images than the prepared ones; "
            f"run `dvc repro score@{explanation.dataset}-{explanation.model}`"
        )


def title_of(name: str) -> str:
    """A method or baseline as it is written for people; `random_8x8` becomes `random map 8x8`."""
    stem, _, grid = name.partition("_")
    if stem == "random" and grid:
        return f"{TITLES['random']} {grid}"
    if name.startswith(SWAPPED):
        return f"{title_of(name.removeprefix(SWAPPED))} of another image"
    return TITLES.get(name, name.replace("_", " "))


def twin_of(method: str, explanation: Explanation) -> str:
    """The name of the random map on the same grid as a method's: what its gain is measured against."""
    grid, random_grid = ("{}x{}".format(*explanation.grids[name]) for name in (method, "random"))
    return random_twin(grid, random_grid)


def _stage_of(stage: str, dataset: str, model: str, seed: int | None) -> str:
    """What dvc.yaml calls a cell's stage."""
    return f"{stage}@{dataset}-{model}" if seed is None else f"{stage}_seed@{dataset}-{model}-{seed}"


def _refuse_absent(folders: Mapping[str, Path], dataset: str, model: str, seed: int | None) -> None:
    for stage, folder in folders.items():
        for name in NEEDED[stage][1]:
            if not (folder / name).is_file():
                maker = _stage_of(stage, dataset, model, seed)
                raise StudyError(f"{folder / name}: no such file; run `dvc repro {maker}`")


def _refuse_mixture(cell: Cell, attributions_sha256: str, seed: int | None) -> None:
    scored = (cell.explanation, cell.summary, cell.trust)
    explained = cell.heatmaps.lineage
    checkpoints = {record.checkpoint_sha256 for record in (cell.receipt, cell.classification, explained, *scored)}
    attributions = {attributions_sha256, *(record.attributions_sha256 for record in scored)}
    data = {record.data_sha256 for record in (cell.receipt, cell.classification, cell.explanation, cell.summary)}
    cells = {(record.dataset, record.model) for record in (cell.receipt, explained, *scored)}
    if max(map(len, (checkpoints, attributions, data))) > 1 or cells != {(cell.dataset, cell.model)}:
        raise StudyError(
            f"{cell.dataset}/{cell.model}: its files speak of different checkpoints, heatmaps or data; "
            f"run `dvc repro {_stage_of('score', cell.dataset, cell.model, seed)}`"
        )
