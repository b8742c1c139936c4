"""Brings MLflow in step with the study's files: one run and one model version per cell, one run for the report.

Everything is keyed by hashes of content, so publishing twice writes once, and publishing into an empty store rebuilds
it. Nothing here decides anything; nothing of the study reads it back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import tracking
from pipeline.params import Params
from pipeline.publishing.aliases import alias_drifts, restore_aliases
from pipeline.publishing.cells import publish_cell
from pipeline.publishing.content import Context, Published
from pipeline.publishing.drift import Drift, cell_state
from pipeline.publishing.files import CellFiles
from pipeline.publishing.reports import (
    STUDY,
    OwnRun,
    own_pretraining,
    publish_pretraining,
    publish_run,
    report_run,
    run_drifts,
)
from pipeline.publishing.wanted import WantedCell, cell_params, wanted_cell

__all__ = [
    "CellFiles",
    "Context",
    "Drift",
    "Published",
    "Study",
    "cell_params",
    "check_study",
    "publish_cell",
    "publish_pretraining",
    "publish_study",
    "wanted_cell",
]


@dataclass(frozen=True)
class Study:
    """What is published, and what is known of it beside its files."""

    data_dir: Path
    params: Params
    context: Context
    promotion_log: Path

    def cells(self) -> list[WantedCell]:
        names = [(dataset, model) for dataset in self.params.study.datasets for model in self.params.study.models]
        files = [CellFiles(self.data_dir, *name) for name in names]
        params = [cell_params(self.params, *name) for name in names]
        return [wanted_cell(*each, self.context) for each in zip(files, params, strict=True)]

    def pretrainings(self) -> list[OwnRun]:
        """Of the weights of the study's models that have a receipt beside them, each once."""
        paths = dict.fromkeys(Path(self.params.models[model].weights) for model in self.params.study.models)
        return [own_pretraining(path, self.context) for path in paths if path.with_suffix(".json").is_file()]

    def report(self, cells: Sequence[WantedCell], models: Sequence[str] = ()) -> OwnRun:
        checkpoints = {cell.name: cell.cell.receipt.checkpoint_sha256 for cell in cells}
        return OwnRun(STUDY, report_run(self.data_dir / "report", checkpoints, self.context), models)


@tracking.lost_store_named()
def publish_study(study: Study, thorough: bool = False) -> list[Published]:
    """Every cell of the study, then its report; creates the store if there is none.

    Aliases that went with a store or a version are set again as the promotion log has them.

    Args:
        thorough: files behind a server are fetched to see whether they were altered; else they only have to be there.

    Raises:
        UnreachableError: the store does not answer.
        StudyError: a cell's files are absent, damaged or do not belong together.
    """
    client, cells = tracking.open_store(), study.cells()
    published = [publish_cell(client, cell, thorough) for cell in cells]
    for pretraining in study.pretrainings():
        publish_run(client, pretraining, thorough)
    models = [each.model_id for each in published if each.model_id]
    report = publish_run(client, study.report(cells, models), thorough)
    for dataset in study.params.study.datasets:
        restore_aliases(client, dataset, study.promotion_log)
    return [*published, report]


@tracking.lost_store_named()
def check_study(study: Study) -> list[Drift]:
    """Every place where MLflow and the files disagree; changes nothing, and reads every file that MLflow keeps.

    Raises:
        StudyError: as `publish_study`.
    """
    if not tracking.store_exists():
        return [Drift(tracking.tracking_uri(), "no such store", "made")]
    client, cells = tracking.open_store(), study.cells()
    drifts = [drift for cell in cells for drift in cell_state(client, cell, thorough=True).drifts]
    for own in (*study.pretrainings(), study.report(cells)):
        drifts += run_drifts(client, own, thorough=True)
    for dataset in study.params.study.datasets:
        drifts += alias_drifts(client, dataset, study.promotion_log)
    return drifts
