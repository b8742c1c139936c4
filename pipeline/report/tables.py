"""The study's numbers as tables: CSV files, one nested JSON for `dvc metrics show`, and a summary for the console."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import StudyError
from pipeline.files import write_text
from pipeline.records import ORACLE, SWAPPED
from pipeline.report.cells import Cell

TEST_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")
INTERVAL_METRICS = (
    "insertion_auc", "deletion_auc", "insertion_gain", "deletion_gain", "normalised_insertion_auc",
    "normalised_deletion_auc",
)  # fmt: skip
LOCALISATION_METRICS = (
    "pointing_game", "pointing_chance", "mass_ratio", "mass_over_chance", "rank_accuracy", "average_precision",
    "top_k_iou",
)  # fmt: skip
COLUMN_OF = {"pointing_game": "pointing_hit", "pointing_chance": "mask_fraction"}  # of localisation.csv, else the same
SIZES = ("small", "medium", "large")
PROTOCOL = (
    "insertion_substrate", "deletion_substrate", "steps", "adaptive", "unit_px", "order", "temperature",
    "probability_full",
)  # fmt: skip
MAP_METRICS = (*(name + end for name in INTERVAL_METRICS for end in ("", "_low", "_high")), *LOCALISATION_METRICS)

# True: higher is better. The tables and figures print the arrow, as a deletion AUC reads the other way round.
HIGHER_IS_BETTER = dict.fromkeys((*TEST_METRICS, *INTERVAL_METRICS, "pointing_game", "mass_ratio"), True)
HIGHER_IS_BETTER |= {"deletion_auc": False, "normalised_deletion_auc": False}


def arrow(metric: str) -> str:
    return "↑" if HIGHER_IS_BETTER[metric] else "↓"


def classification_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Test metrics, one row for each cell."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "images": cell.classification.images}
        | {name: cell.classification.test.get(name) for name in TEST_METRICS}
        for cell in cells
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "images", *TEST_METRICS])


def recall_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Test recall, one row for each cell and class."""
    rows = [
        (cell.dataset, cell.model, name, recall)
        for cell in cells
        for name, recall in cell.classification.recall.items()
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "class", "recall"])


def heatmap_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Scores of the predicted-class maps, one row for each cell and method, baselines after the methods.

    `blank` counts the maps without any positive value: their order of pixels means nothing.
    """
    rows = [_heatmap_row(cell, name) for cell in cells for name in (*cell.explanation.methods, *cell.baselines)]
    columns = ["dataset", "model", "method", "kind", "images", "accuracy", "balanced_accuracy", *MAP_METRICS, "blank"]
    return pd.DataFrame(rows, columns=columns)


def misclassified_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Every test image that a model got wrong, with the AUCs of its maps for either class where it was explained."""
    frames = [_misclassified(cell) for cell in cells]
    return pd.concat(frames, ignore_index=True)


def misclassified_scores_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Mean scores on the explained misclassified images, one row for each cell, method and target rule."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "images": cell.summary.misclassified}
        | dict(zip(("method", "target_rule"), key.rsplit("/", 1), strict=True))
        | metrics
        for cell in cells
        for key, metrics in sorted(cell.summary.metrics_misclassified.items())
    ]
    columns = ["dataset", "model", "method", "target_rule", "images", *MAP_METRICS]
    return pd.DataFrame(rows, columns=columns)


def variant_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Mean scores by further protocols, one row for each cell, variant and method or baseline."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "variant": name, "method": method}
        | {key: getattr(scores, key) for key in PROTOCOL}
        | {f"probability_{key}": value for key, value in scores.probability_substrate.items()}
        | metrics
        for cell in cells
        for name, scores in cell.summary.variants.items()
        for method, metrics in scores.metrics.items()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["dataset", "model", "variant", "method", *PROTOCOL])


def size_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Localisation of the predicted-class maps by the size of the finding; images without a mask are in none."""
    frames = [
        cell.localisation[cell.localisation["target_rule"] == "predicted"]
        .groupby(["method", "size"], sort=False)
        .agg(images=("row", "nunique"), **{name: (COLUMN_OF.get(name, name), "mean") for name in LOCALISATION_METRICS})
        .reset_index()
        .assign(dataset=cell.dataset, model=cell.model)
        for cell in cells
        if not cell.localisation.empty
    ]
    columns = ["dataset", "model", "method", "size", "images", *LOCALISATION_METRICS]
    if not frames:
        return pd.DataFrame(columns=columns)
    table = pd.concat(frames)
    order = table["size"].map(SIZES.index)
    return table.assign(order=order).sort_values(["dataset", "model", "method", "order"])[columns]


def trust_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Means of the trust checks, one row for each cell, method and check; `undefined` counts images without a value."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "method": method, "check": check, "mean": mean}
        | {"chance": cell.trust.chance[method].get(check)}
        | {"images": cell.trust.images, "undefined": cell.trust.undefined[method].get(check, 0)}
        for cell in cells
        for method, checks in cell.trust.metrics.items()
        for check, mean in checks.items()
    ]
    columns = ["dataset", "model", "method", "check", "mean", "chance", "images", "undefined"]
    return pd.DataFrame(rows, columns=columns)


def write_tables(cells: Sequence[Cell], report_dir: Path) -> None:
    """tables/*.csv and metrics.json in `report_dir`."""
    tables = {
        "classification": classification_table(cells),
        "recall": recall_table(cells),
        "heatmaps": heatmap_table(cells),
        "misclassified": misclassified_table(cells),
        "misclassified_scores": misclassified_scores_table(cells),
        "variants": variant_table(cells),
        "localisation_by_size": size_table(cells),
        "trust": trust_table(cells),
    }
    for name, table in tables.items():
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.9g")
        write_text(report_dir / "tables" / f"{name}.csv", text)
    write_text(report_dir / "metrics.json", json.dumps(nested_metrics(cells), indent=2) + "\n")


def nested_metrics(cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """dataset -> model -> `test` or a method or baseline -> metric."""
    nested: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for cell in cells:
        nested.setdefault(cell.dataset, {})[cell.model] = {"test": cell.classification.test, **cell.summary.metrics}
    return nested


def console_table(report_dir: Path) -> str:
    """The report in at most 120 columns of plain text: one line for each cell and method, then the findings.

    Raises:
        StudyError: there is no report in `report_dir`.
    """
    metrics, findings = (_read_json(report_dir / name) for name in ("metrics.json", "findings.json"))
    lines = [_console_line(_CONSOLE_TITLES)]
    for dataset, models in metrics.items():
        for model, found in models.items():
            methods = [name for name, values in found.items() if "insertion_gain" in values and not _is_baseline(name)]
            lines += [_console_line(_console_cells(dataset, model, name, found)) for name in methods]
    return "\n".join([*lines, "", *(f"{each['id']} {each['verdict']}: {each['claim']}"[:120] for each in findings)])


_CONSOLE_METRICS = ("insertion_auc", "deletion_auc", "insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")
_CONSOLE_TITLES = (
    "dataset", "model", "bal.acc ↑", "method",
    "insertion ↑", "deletion ↓", "ins.gain ↑", "del.gain ↑", "pointing ↑", "mass ↑",
)  # fmt: skip
_CONSOLE_WIDTHS = (8, 8, 9, 17, 11, 10, 10, 10, 10, 7)


def _console_line(texts: Sequence[str]) -> str:
    padded = [
        text[:width].ljust(width) if column in (0, 1, 3) else text[:width].rjust(width)
        for column, (text, width) in enumerate(zip(texts, _CONSOLE_WIDTHS, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _console_cells(dataset: str, model: str, method: str, found: dict[str, dict[str, float]]) -> list[str]:
    values = [found[method].get(name) for name in _CONSOLE_METRICS]
    accuracy = found["test"].get("balanced_accuracy")
    return [dataset, model, _number(accuracy, 3), method, *(_number(value, 3) for value in values)]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus zero


def _is_baseline(name: str) -> bool:
    return name in ("centre", "edge", ORACLE) or name.startswith(("random", SWAPPED))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run `dvc repro report`") from None


def _heatmap_row(cell: Cell, name: str) -> dict[str, str | float | int | None]:
    maps = cell.heatmaps.attributions[f"{name}/predicted"]
    about = {"dataset": cell.dataset, "model": cell.model, "method": name}
    about["kind"] = "method" if name in cell.explanation.methods else "baseline"
    counts = {"images": cell.summary.images, "blank": int((maps.max(axis=(1, 2)) <= 0).sum())}
    accuracy = {key: cell.classification.test.get(key) for key in ("accuracy", "balanced_accuracy")}
    scores = cell.summary.metrics.get(name, {})
    return {**about, **counts, **accuracy, **{key: scores.get(key) for key in MAP_METRICS}}


def _misclassified(cell: Cell) -> pd.DataFrame:
    wrong = cell.predictions[cell.predictions["label"] != cell.predictions["predicted"]].sort_values("row")
    names = cell.receipt.classes
    table = pd.DataFrame(
        {
            "dataset": cell.dataset,
            "model": cell.model,
            "row": wrong["row"],
            "file": wrong["file"],
            "label": [names[label] for label in wrong["label"]],
            "predicted": [names[label] for label in wrong["predicted"]],
            "probability_predicted": [_probability(row, names[row["predicted"]]) for _, row in wrong.iterrows()],
            "probability_label": [_probability(row, names[row["label"]]) for _, row in wrong.iterrows()],
        }
    )
    table["explained"] = table["row"].isin(cell.heatmaps.rows["true"])
    return table.merge(_aucs_by_image(cell), on="row", how="left")


def _probability(prediction: pd.Series, name: str) -> float:
    return float(prediction[f"p_{name}"])


def _aucs_by_image(cell: Cell) -> pd.DataFrame:
    """Columns `<method>_<rule>_<curve>_auc`, one row for each image explained for its true class too."""
    scores = cell.scores[
        cell.scores["row"].isin(cell.heatmaps.rows["true"]) & cell.scores["method"].isin(cell.explanation.methods)
    ]
    wide = scores.pivot_table(index="row", columns=["method", "target_rule", "curve"], values="auc")
    wide.columns = ["_".join([*key, "auc"]) for key in wide.columns]
    return wide.reset_index()
