"""The report: one self-contained page, with the tables, figures and findings that it shows as files beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline.data.fetching.source import PHANTOM, source_name
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.files import told, whole_folder, write_text
from pipeline.params import Params
from pipeline.records import Audit
from pipeline.report.browser import Card, browser_cards
from pipeline.report.cells import Cell, by_dataset, load_cells, refuse_other_images
from pipeline.report.curves import half_bands
from pipeline.report.evidence import evidence_of
from pipeline.report.figures import METHOD_COLOURS, write_figures
from pipeline.report.findings import Finding, study_findings, write_findings
from pipeline.report.gallery import Shown, file_uri, gallery
from pipeline.report.model_card import write_cards
from pipeline.report.overlays import take_turns
from pipeline.report.publication import PLAIN, PUBLISHED
from pipeline.report.rendering import environment
from pipeline.report.sheet import write_sheet
from pipeline.report.shortcuts import ShortcutAnswer, shortcut_answers, shortcut_finding
from pipeline.report.statistics_view import Row, grouped, outdone, records, statistics_view, strata_view
from pipeline.report.tables import best_of, study_tables, write_metrics, write_tables

FIGURES = {
    "curves": "Mean probability of the predicted class as pixels come in (insertion) or go (deletion), most important "
    "first. A better map rises sooner above and falls sooner below. Bands: mean ± 1.96 standard errors over images.",
    "gains": "Gain over a random map of the same grid, with 95 % intervals over images. Above 0 is better than chance.",
    "confusion": "Confusion on the test split: counts, shaded by the share of the true class.",
    "training": "Training: loss and validation macro F1 by epoch.",
}
SPLITS = ("train", "validation", "test")

# Of a dataset's section: the end of the id -> what the contents call it.
PARTS = {
    "accuracy": "Predictions",
    "gallery": "Heatmaps",
    "faithfulness": "Faithfulness",
    "curves": "Curves",
    "localisation": "Localisation",
    "strata": "Strata",
    "statistics": "Comparisons",
    "trust": "Trust checks",
    "shortcuts": "Shortcuts",
    "training": "Training",
}
SHOWN = {"figure_texts": FIGURES, "splits": SPLITS, "parts": PARTS, "method_colours": METHOD_COLOURS}


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
    by_trait: dict[tuple[str, ...], list[Row]]  # (trait, level) -> accuracy of each model
    heatmaps: dict[str, list[Row]]  # model -> a row for each method and baseline
    outdone: dict[str, list[str]]  # baseline -> models all of whose methods gain less by insertion
    has_masks: bool
    sizes: list[Row]  # localisation of each model's methods by the size of the finding
    figures: dict[str, str]  # kind -> data URI
    strata: dict[str, dict[tuple[str, ...], list[Row]]]  # stratum -> (model, method) -> a row for each level
    statistics: dict[str, Any]  # what statistics.html shows
    shortcuts: dict[str, list[Row]]  # model -> its shortcut check, a row for each method
    gallery: list[Shown]
    cards: list[list[Card]]  # of each cell


@dataclass(frozen=True)
class Study:
    """What was read and found out of all cells, before anything is written."""

    params: Params
    cells: list[Cell]
    prepared: dict[str, Prepared]
    audits: dict[str, Audit]
    shortcuts: list[ShortcutAnswer]
    findings: list[Finding]
    tables: dict[str, pd.DataFrame]


def write_report(data_dir: Path, report_dir: Path, params: Params) -> Path:
    """The page written, `report_dir`/index.html; tables, figures, findings, metrics and model cards stand beside it.

    report.html is the same page as it stays, while publishing fills in what it knows into index.html.

    Raises:
        StudyError: a cell lacks a file, or its files do not belong together.
    """
    study = read_study(data_dir, params)
    with whole_folder(report_dir) as partial:
        write_tables(study.tables, partial)
        write_metrics(study.cells, partial)
        write_findings(study.findings, partial)
        write_cards(study.cells, study.shortcuts, study.audits, params, partial)
        text = _page(study, data_dir / "scores", partial)
        for name in (PLAIN, PUBLISHED):
            write_text(partial / name, text)
    return report_dir / PUBLISHED


def read_study(data_dir: Path, params: Params) -> Study:
    """All cells with their answers and tables.

    Raises:
        StudyError: a cell lacks a file, or its files do not belong together.
    """
    asked, rules = params.study, params.findings
    cells = load_cells(data_dir, asked.datasets, asked.models)
    repeats = [cells, *(load_cells(data_dir, asked.datasets, asked.models, seed) for seed in asked.seeds)]
    prepared = {name: load_prepared(data_dir / "prepared" / name) for name in asked.datasets}
    audits = {name: Audit.read(data_dir / "prepared" / name) for name in asked.datasets}
    traits = {name: each.traits for name, each in prepared.items()}
    evidence = evidence_of([cell for each in repeats for cell in each], traits)
    shortcuts = shortcut_answers(cells, rules.S1, asked.seed, rules.resamples)
    findings = [*study_findings(evidence, rules, asked.seed), shortcut_finding(shortcuts, rules.S1)]
    tables = study_tables(cells, repeats, evidence, findings, shortcuts, traits, rules, asked.seed)
    return Study(params, cells, prepared, audits, shortcuts, findings, tables)


def _page(study: Study, scores_dir: Path, report_dir: Path) -> str:
    """The page's text; its figures are written to `report_dir` on the way."""
    views = [
        _view(group, study, study.prepared[name], study.audits[name], scores_dir, report_dir)
        for name, group in by_dataset(study.cells)
    ]
    return (
        environment()
        .get_template("page.html")
        .render(
            **SHOWN,
            views=views,
            cells=study.cells,
            findings=study.findings,
            shortcuts=study.shortcuts,
            params=study.params,
            parameters=parameter_text(study.params),
            packages=package_table(study.cells),
            cards=take_turns(cards for view in views for cards in view.cards),
        )
    )


def parameter_text(params: Params) -> str:
    """What of params.yaml decides the report, as it was read, without comments; told so that others may read it."""
    shown = params.model_dump(mode="json", exclude_unset=True, exclude={"promotion", "runner"})
    return yaml.safe_dump(_named(shown), sort_keys=False, allow_unicode=True, width=110)


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each) for each in value]
    return told(value) if isinstance(value, str) else value


def package_table(cells: Sequence[Cell]) -> dict[str, str]:
    """Versions of the packages that made the checkpoints and heatmaps; several where cells differ."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for packages in (cell.receipt.packages, cell.explanation.packages):
            for name, version in packages.items():
                found.setdefault(name, set()).add(version)
    return {name: ", ".join(sorted(found[name])) for name in sorted(found)}


def _view(
    cells: list[Cell],
    study: Study,
    prepared: Prepared,
    audit: Audit,
    scores_dir: Path,
    report_dir: Path,
) -> DatasetView:
    params, tables = study.params, study.tables
    spec, source = audit.spec, params.datasets[cells[0].dataset].source
    for cell in cells:
        refuse_other_images(prepared, cell.explanation)
    own = {name: table[table["dataset"] == spec.name] for name, table in tables.items() if "dataset" in table}
    scored = {cell.model: scores_dir / cell.dataset / cell.model for cell in cells}
    write_sheet(cells, prepared, report_dir)
    bands = {cell.model: half_bands(scored[cell.model], cell.explanation.methods) for cell in cells}
    return DatasetView(
        name=spec.name,
        title=spec.title,
        evidence=spec.evidence,
        synthetic=source == PHANTOM,
        source=source_name(source),
        audit=audit,
        cells=cells,
        classification=_marked(own["classification"]),
        by_trait=grouped(own["accuracy_by_trait"], ("trait", "level")),
        heatmaps={model: list(rows) for model, rows in groupby(_marked(own["heatmaps"]), itemgetter("model"))},
        outdone=outdone(own["heatmaps"]),
        has_masks=prepared.masks is not None,
        sizes=_size_rows(own["localisation_by_size"], cells[0].explanation.methods),
        figures={kind: file_uri(path) for kind, path in write_figures(cells, bands, report_dir).items()},
        strata=strata_view(own["strata"]),
        statistics=statistics_view(own),
        shortcuts={str(model): records(part) for model, part in own["shortcuts"].groupby("model", sort=False)},
        gallery=gallery(cells, prepared, params.report.gallery_images),
        cards=[browser_cards(cell, prepared, scored[cell.model], params.report.browser_images) for cell in cells],
    )


def _marked(table: pd.DataFrame) -> list[Row]:
    """Rows with `<metric>_best` beside each metric that has a best."""
    return records(table.join(best_of(table).add_suffix("_best")))


def _size_rows(table: pd.DataFrame, methods: Sequence[str]) -> list[Row]:
    """Without the baselines, which the CSV has."""
    return records(table[table["method"].isin(methods)])
