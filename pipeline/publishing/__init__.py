"""Brings MLflow in step with the study's files: one run and one model version per cell, one run for the report.

Everything is keyed by hashes of content, so publishing twice writes once, and publishing into an empty store rebuilds
it. Nothing here decides anything; nothing of the study reads it back.
"""

from pathlib import Path

from pipeline import tracking
from pipeline.params import Params
from pipeline.publishing.cells import CellFiles, cell_params, publish_cell, read_cell
from pipeline.publishing.content import Context, Published
from pipeline.publishing.runs import publish_pretraining, publish_report

__all__ = [
    "CellFiles",
    "Context",
    "Published",
    "cell_params",
    "publish_cell",
    "publish_pretraining",
    "publish_report",
    "publish_study",
    "read_cell",
]


def publish_study(data_dir: Path, params: Params, context: Context) -> list[Published]:
    """Every cell of the study, then its report; creates the store if there is none.

    Raises:
        StudyError: the store does not answer, or a cell's files are absent, damaged or do not belong together.
    """
    client = tracking.open_store()
    published = []
    for dataset in params.study.datasets:
        for model in params.study.models:
            cell = CellFiles(data_dir, dataset, model)
            published.append(publish_cell(client, cell, cell_params(params, dataset, model), context))
    for weights in {params.models[model].weights: None for model in params.study.models}:
        if Path(weights).with_suffix(".json").is_file():
            publish_pretraining(Path(weights), context)
    return [*published, publish_report(client, data_dir / "report", context)]
