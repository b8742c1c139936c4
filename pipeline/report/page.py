"""The report: one self-contained page, with the tables, figures and findings that it shows as files beside it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.data import get
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.files import whole_folder, write_text
from pipeline.params import FindingsParams, ReportParams
from pipeline.records import Audit
from pipeline.report.cells import Cell, by_dataset, load_cells, refuse_other_images, title_of
from pipeline.report.evidence import evidence_of
from pipeline.report.figures import write_figures
from pipeline.report.findings import study_findings, write_findings
from pipeline.report.gallery import Shown, errors, gallery, png_uri
from pipeline.report.tables import (
    HIGHER_IS_BETTER,
    arrow,
    classification_table,
    heatmap_table,
    size_table,
    write_tables,
)

PHANTOM = "phantom"

FIGURES = {
    "curves": "Mean probability of the predicted class as pixels come in (insertion) or go (deletion), most important "
    "first. A better map rises sooner above and falls sooner below.",
    "gains": "Gain over a random map of the same grid, with 95 % intervals over images. Above 0 is better than chance.",
    "confusion": "Confusion on the test split: counts, shaded by the share of the true class.",
    "training": "Training: loss and validation macro F1 by epoch.",
}
Row = dict[Hashable, Any]  # a line of a table by column
SPLITS = ("train", "validation", "test")

# Raw AUCs depend on how sure a model is, so the best is sought within a model; gains and hits compare across models.
BEST_WITHIN_MODEL = ("insertion_auc", "deletion_auc")
BEST_ACROSS_MODELS = ("insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")


@dataclass(frozen=True)
class DatasetView:
    """What the page says of one dataset."""

    name: str
    title: str
    evidence: str
    synthetic: bool
    source: str
    audit: Audit
    cells: list[Cell]
    classification: list[Row]
    heatmaps: dict[str, list[Row]]  # model -> a row for each method and baseline
    has_masks: bool
    sizes: list[Row]  # localisation of each model's methods by the size of the finding
    figures: dict[str, str]  # kind -> data URI
    gallery: list[Shown]
    errors: dict[str, list[Shown]]  # model -> its errors


def write_report(
    data_dir: Path,
    report_dir: Path,
    datasets: Sequence[str],
    models: Sequence[str],
    sources: dict[str, str],
    report_params: ReportParams,
    rules: FindingsParams,
    seed: int,
) -> Path:
    """The page written, `report_dir`/index.html; tables, figures, findings and metrics stand beside it.

    Only the datasets and models named are read. `sources` tells where each dataset's images come from.

    Raises:
        StudyError: a cell lacks a file, or its files do not belong together.
    """
    cells = load_cells(data_dir, datasets, models)
    prepared = {name: load_prepared(data_dir / "prepared" / name) for name in datasets}
    traits = {name: getattr(each, "traits", pd.DataFrame()) for name, each in prepared.items()}
    evidence = evidence_of(cells, traits)
    findings = study_findings(evidence, rules, seed)
    with whole_folder(report_dir) as partial:
        write_tables(cells, partial)
        write_findings(findings, partial)
        views = [
            _view(group, prepared[name], sources[name], report_params, partial) for name, group in by_dataset(cells)
        ]
        text = _template().render(
            views=views,
            cells=cells,
            findings=findings,
            seed=seed,
            packages=package_table(cells),
            min_images=rules.min_images,
        )
        write_text(partial / "index.html", text)
    return report_dir / "index.html"


def package_table(cells: Sequence[Cell]) -> dict[str, str]:
    """Versions of the packages that made the checkpoints and heatmaps; several where cells differ."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for packages in (cell.receipt.packages, cell.explanation.packages):
            for name, version in packages.items():
                found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def mark_best(table: pd.DataFrame, metric: str, within: str | None = None) -> pd.Series:
    """Whether a row holds the best value of the metric among the methods, of all rows or of those equal in `within`.

    Baselines are never marked, nor a method without a rival.
    """
    values = table[metric].astype(float).where(table["kind"] == "method")
    groups = table[within] if within else pd.Series("all", index=table.index)
    best = values.groupby(groups).transform("max" if HIGHER_IS_BETTER[metric] else "min")
    return (values == best) & (values.groupby(groups).transform("count") > 1)


def _view(cells: list[Cell], prepared: Prepared, source: str, params: ReportParams, report_dir: Path) -> DatasetView:
    spec = get(cells[0].dataset)
    for cell in cells:
        refuse_other_images(prepared, cell.explanation)
    return DatasetView(
        name=spec.name,
        title=spec.title,
        evidence=spec.evidence,
        synthetic=source == PHANTOM,
        source=source.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1],  # never a path of this machine
        audit=prepared.audit,
        cells=cells,
        classification=_classification_rows(cells),
        heatmaps=_heatmap_rows(cells),
        has_masks=prepared.masks is not None,
        sizes=_size_rows(cells),
        figures={kind: png_uri(path) for kind, path in write_figures(cells, report_dir).items()},
        gallery=gallery(cells, prepared, params.gallery_images),
        errors={cell.model: errors(cell, prepared, params.gallery_images) for cell in cells},
    )


def _classification_rows(cells: Sequence[Cell]) -> list[Row]:
    table = classification_table(cells).assign(kind="method")
    for metric in ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc"):
        table[f"{metric}_best"] = mark_best(table, metric)
    return _records(table)


def _heatmap_rows(cells: Sequence[Cell]) -> dict[str, list[Row]]:
    table = heatmap_table(cells)
    for metric in BEST_WITHIN_MODEL:
        table[f"{metric}_best"] = mark_best(table, metric, within="model")
    for metric in BEST_ACROSS_MODELS:
        table[f"{metric}_best"] = mark_best(table, metric)
    rows = _records(table)
    return {cell.model: [row for row in rows if row["model"] == cell.model] for cell in cells}


def _size_rows(cells: Sequence[Cell]) -> list[Row]:
    """Without the baselines, which the CSV has."""
    table = size_table(cells)
    return _records(table[table["method"].isin(cells[0].explanation.methods)])


def _records(table: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries, with None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "title_of": title_of, "arrow": arrow, "words": _words}
    environment.globals |= {"figure_texts": FIGURES, "splits": SPLITS}
    return environment.get_template("template.html")


def _number(value: float | None, digits: int = 3) -> str:
    """A number with a true minus sign, or a dash for none."""
    if value is None:
        return "–"
    shown = round(value, digits) + 0.0  # + 0.0: no minus before a zero
    return f"{shown:.{digits}f}".replace("-", "−")


def _words(name: str) -> str:
    return name.replace("_", " ")
