"""Brings MLflow in step with the study's files: one run and one model version per cell, one run for the report.

Everything is keyed by hashes of content, so publishing twice writes once, and publishing into an empty store rebuilds
it. Nothing here decides anything; nothing of the study reads it back.
"""

from pathlib import Path

from pipeline import tracking
from pipeline.params import Params
from pipeline.publishing.aliases import alias_drifts, restore_aliases
from pipeline.publishing.cells import publish_cell
from pipeline.publishing.content import Context, Published
from pipeline.publishing.drift import Drift, cell_state
from pipeline.publishing.files import CellFiles
from pipeline.publishing.reports import (
    PRETRAINING,
    STUDY,
    pretraining_run,
    publish_pretraining,
    publish_report,
    read_pretraining,
    report_run,
    run_drifts,
)
from pipeline.publishing.wanted import WantedCell, cell_params, wanted_cell
from pipeline.runs import RunContent

__all__ = [
    "CellFiles",
    "Context",
    "Drift",
    "Published",
    "cell_params",
    "check_study",
    "publish_cell",
    "publish_pretraining",
    "publish_study",
    "wanted_cell",
]


def publish_study(data_dir: Path, params: Params, context: Context, promotion_log: Path) -> list[Published]:
    """Every cell of the study, then its report; creates the store if there is none.

    Aliases that went with a store or a version are set again as the promotion log has them.

    Raises:
        StudyError: the store does not answer, or a cell's files are absent, damaged or do not belong together.
    """
    client = tracking.open_store()
    cells = [wanted_cell(*each, context) for each in _cells(data_dir, params)]
    published = [publish_cell(client, cell) for cell in cells]
    for weights in _pretrained(params):
        publish_pretraining(weights, context)
    models = [each.model_id for each in published if each.model_id]
    report = publish_report(client, _report_run(data_dir, cells, context), models)
    for dataset in params.study.datasets:
        restore_aliases(client, dataset, promotion_log)
    return [*published, report]


def check_study(data_dir: Path, params: Params, context: Context, promotion_log: Path) -> list[Drift]:
    """Every place where MLflow and the files disagree; changes nothing.

    Raises:
        StudyError: as `publish_study`.
    """
    client = tracking.open_store()
    cells = [wanted_cell(*each, context) for each in _cells(data_dir, params)]
    drifts = [drift for cell in cells for drift in cell_state(client, cell, thorough=True).drifts]
    for weights in _pretrained(params):
        content = pretraining_run(*read_pretraining(weights), context)
        drifts += run_drifts(client, PRETRAINING, content, thorough=True)
    drifts += run_drifts(client, STUDY, _report_run(data_dir, cells, context), thorough=True)
    for dataset in params.study.datasets:
        drifts += alias_drifts(client, dataset, promotion_log)
    return drifts


def _cells(data_dir: Path, params: Params) -> list[tuple[CellFiles, dict[str, str]]]:
    names = [(dataset, model) for dataset in params.study.datasets for model in params.study.models]
    return [(CellFiles(data_dir, *name), cell_params(params, *name)) for name in names]


def _pretrained(params: Params) -> list[Path]:
    """The weights of the study's models that have a receipt beside them, each once."""
    paths = dict.fromkeys(Path(params.models[model].weights) for model in params.study.models)
    return [path for path in paths if path.with_suffix(".json").is_file()]


def _report_run(data_dir: Path, cells: list[WantedCell], context: Context) -> RunContent:
    checkpoints = {cell.name: cell.cell.receipt.checkpoint_sha256 for cell in cells}
    return report_run(data_dir / "report", checkpoints, context)
