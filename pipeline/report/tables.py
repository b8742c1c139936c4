"""The study's numbers as tables: CSV and LaTeX files, and one nested JSON for `dvc metrics show`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.files import write_text
from pipeline.params import FindingsParams
from pipeline.report.cells import TITLES, Cell, title_of
from pipeline.report.comparisons import method_pairs, model_pairs, model_ranks, ruler_agreement, seed_table
from pipeline.report.evidence import ENDS
from pipeline.report.findings import Finding
from pipeline.report.latex import latex_table
from pipeline.report.misclassified import misclassified_table
from pipeline.report.shortcuts import ShortcutAnswer, shortcut_table
from pipeline.report.strata import SIZES, accuracy_by_trait, strata_table
from pipeline.statistics import mean_interval, stratified_interval

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
PROTOCOL = (
    "insertion_substrate", "deletion_substrate", "steps", "adaptive", "unit_px", "order", "temperature",
    "probability_full",
)  # fmt: skip
LOCATED = ("pointing_game", "mass_ratio")  # the localisation metrics with intervals
MAP_METRICS = (
    *(name + end for name in (*INTERVAL_METRICS, *LOCATED) for end in ("", *ENDS)),
    *(name for name in LOCALISATION_METRICS if name not in LOCATED),
)

# True: higher is better. The tables and figures print the arrow, as a deletion AUC reads the other way round.
HIGHER_IS_BETTER = dict.fromkeys((*TEST_METRICS, *INTERVAL_METRICS, "pointing_game", "mass_ratio"), True)
HIGHER_IS_BETTER |= {"deletion_auc": False, "normalised_deletion_auc": False}
ARROWS = {metric: "↑" if higher else "↓" for metric, higher in HIGHER_IS_BETTER.items()}

# Raw AUCs depend on how sure a model is, so the best is sought within a model; gains and hits compare across models.
BEST_WITHIN_MODEL = ("insertion_auc", "deletion_auc")
BEST_ACROSS_MODELS = (*TEST_METRICS, "insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")

# What a paper shows of the wide tables; the others are shown whole.
PAPER = {
    "heatmaps": [
        "dataset", "model", "method", "images",
        *(f"{name}{end}" for name in INTERVAL_METRICS[:4] for end in ("", *ENDS)),
        *(f"{name}{end}" for name in LOCATED for end in ("", *ENDS)),
    ],
    "findings": ["finding", "dataset", "measure", "effect", "effect_low", "effect_high", "images", "p_holm", "verdict"],
}  # fmt: skip


def arrow(metric: str) -> str:
    return ARROWS[metric]


def study_tables(
    cells: Sequence[Cell],
    repeats: Sequence[Sequence[Cell]],
    evidence: pd.DataFrame,
    findings: Sequence[Finding],
    shortcuts: Sequence[ShortcutAnswer],
    traits: Mapping[str, pd.DataFrame],
    rules: FindingsParams,
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Every table of the report by the name of its file.

    Args:
        repeats: the cells of each fine-tuning seed, the study's own first.
        traits: by dataset, what its images are told apart by: columns of `evidence`.
    """
    names = list(dict.fromkeys(str(name) for each in traits.values() for name in each))
    return {
        "findings": finding_table(findings),
        "classification": classification_table(cells, seed, rules.resamples),
        "recall": recall_table(cells),
        "heatmaps": heatmap_table(cells),
        "strata": strata_table(evidence, names, seed, rules.resamples),
        "methods_compared": method_pairs(evidence, seed, rules.resamples),
        "models_compared": model_pairs(evidence, seed, rules.resamples),
        "models_ranked": model_ranks(evidence),
        "ruler_agreement": ruler_agreement(cells),
        "seeds": seed_table(evidence, repeats, seed, rules.resamples),
        "misclassified": misclassified_table(cells),
        "misclassified_scores": misclassified_scores_table(cells),
        "variants": variant_table(cells),
        "localisation_by_size": size_table(cells),
        "trust": trust_table(cells),
        "shortcuts": shortcut_table(cells, shortcuts),
        "accuracy_by_trait": accuracy_by_trait(cells, traits),
    }


def mark_best(table: pd.DataFrame, metric: str, within: Sequence[str] = ()) -> pd.Series:
    """Whether a row holds the best value of the metric among the methods, of all rows or of those equal in `within`.

    Baselines are never marked, nor a method without a rival.
    """
    baselines = table["kind"] == "baseline" if "kind" in table else pd.Series(False, index=table.index)
    values = table[metric].astype(float).mask(baselines)
    groups = table.groupby([*within]).ngroup() if within else pd.Series(0, index=table.index)
    best = values.groupby(groups).transform("max" if HIGHER_IS_BETTER[metric] else "min")
    return (values == best) & (values.groupby(groups).transform("count") > 1)


def classification_table(cells: Sequence[Cell], seed: int, resamples: int) -> pd.DataFrame:
    """Test metrics, one row for each cell; 95 % intervals over images of the two accuracies."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "images": cell.classification.images}
        | accuracy_row(cell, seed, resamples)
        for cell in cells
    ]
    ends = [f"{name}{end}" for name in TEST_METRICS[:2] for end in ("", *ENDS)]
    return pd.DataFrame(rows, columns=["dataset", "model", "images", *ends, *TEST_METRICS[2:]])


def finding_table(findings: Sequence[Finding]) -> pd.DataFrame:
    """Every measure of every claim, with the claim's verdict beside its own."""
    rows = [
        {"finding": finding.id, "finding_verdict": finding.verdict, "dataset": each.dataset, "measure": each.name}
        | {"effect": each.effect, "effect_low": each.low, "effect_high": each.high, "threshold": each.null}
        | {"images": each.n, "p": each.p, "p_holm": each.p_holm, "verdict": each.verdict, "note": each.note}
        | {"would_change": each.would_change}
        for finding in findings
        for each in finding.measures
    ]
    columns = [
        "finding", "finding_verdict", "dataset", "measure", "effect", "effect_low", "effect_high", "threshold",
        "images", "p", "p_holm", "verdict", "note", "would_change",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


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


def write_tables(tables: Mapping[str, pd.DataFrame], report_dir: Path) -> None:
    """Every table as tables/<name>.csv, exact, and as tables/<name>.tex, for a paper."""
    for name, table in tables.items():
        text = table.to_csv(index=False, lineterminator="\n", float_format="%.9g")
        write_text(report_dir / "tables" / f"{name}.csv", text)
        best = best_of(table) if name in ("classification", "heatmaps") else None
        shown = table[PAPER.get(name, list(table))]
        write_text(report_dir / "tables" / f"{name}.tex", latex_table(_titled(shown), name, ARROWS, best))


def write_metrics(cells: Sequence[Cell], report_dir: Path) -> None:
    """metrics.json, for `dvc metrics show`."""
    write_text(report_dir / "metrics.json", json.dumps(nested_metrics(cells), indent=2) + "\n")


def nested_metrics(cells: Sequence[Cell]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """dataset -> model -> `test` or a method or baseline -> metric."""
    nested: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for cell in cells:
        nested.setdefault(cell.dataset, {})[cell.model] = {"test": cell.classification.test, **cell.summary.metrics}
    return nested


def accuracy_row(cell: Cell, seed: int, resamples: int) -> dict[str, float | None]:
    """A cell's test metrics, with the ends of the accuracies' intervals."""
    right = (cell.predictions["label"] == cell.predictions["predicted"]).to_numpy(float)
    by_class = [right[cell.predictions["label"] == label] for label in sorted(cell.predictions["label"].unique())]
    found = {
        "accuracy": mean_interval(right, seed, resamples)[1:],
        "balanced_accuracy": stratified_interval(by_class, seed, resamples)[1:],
    }
    ends = {f"{name}{end}": value for name, both in found.items() for end, value in zip(ENDS, both, strict=True)}
    return {name: cell.classification.test.get(name) for name in TEST_METRICS} | ends


def best_of(table: pd.DataFrame) -> pd.DataFrame:
    """Where a value is the best of its dataset, or of its model for what compares within a model only."""
    marks = {name: mark_best(table, name, ["dataset"]) for name in BEST_ACROSS_MODELS if name in table}
    marks |= {name: mark_best(table, name, ["dataset", "model"]) for name in BEST_WITHIN_MODEL if name in table}
    return pd.DataFrame(marks)


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    """Methods and baselines as they are written for people."""
    known = table.get("method", pd.Series(dtype=str)).tolist() + list(TITLES)
    shown = table.copy()
    for column in ("method", "one", "other", "within"):
        if column in table:
            shown[column] = [title_of(name) if name in known else name for name in table[column]]
    return shown


def _heatmap_row(cell: Cell, name: str) -> dict[str, str | float | int | None]:
    maps = cell.heatmaps.attributions[f"{name}/predicted"]
    about = {"dataset": cell.dataset, "model": cell.model, "method": name}
    about["kind"] = "method" if name in cell.explanation.methods else "baseline"
    counts = {"images": cell.summary.images, "blank": int((maps.max(axis=(1, 2)) <= 0).sum())}
    accuracy = {key: cell.classification.test.get(key) for key in ("accuracy", "balanced_accuracy")}
    scores = cell.summary.metrics.get(name, {})
    return {**about, **counts, **accuracy, **{key: scores.get(key) for key in MAP_METRICS}}
