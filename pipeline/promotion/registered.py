"""Registered versions with their evidence, read back from the files that MLflow keeps of each and not from its tags.

A version whose files are gone, were altered, or speak of another checkpoint or other data is named with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline import integrity, registry, runs, tracking
from pipeline.data.prepared import read_traits
from pipeline.data.split import split_sha256
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.records import CHECKPOINT
from pipeline.report.cells import Cell, read_cell, stage_folders
from pipeline.report.evidence import evidence_of


@dataclass(frozen=True)
class VersionFacts:
    name: str
    number: str
    model: str
    checkpoint_sha256: str
    data_sha256: str
    split_sha256: str  # of the test split
    run_id: str  # of the run that holds its heatmaps and scores
    created_ms: int


@dataclass(frozen=True)
class Registered:
    version: VersionFacts
    cell: Cell
    evidence: pd.DataFrame  # see `report.evidence`
    answers: pd.DataFrame  # all test images: row, file, label, predicted (names), correct, p_<class>, traits


@dataclass(frozen=True)
class Unusable:
    number: str
    model: str
    reason: str


def registered_versions(
    client: tracking.MlflowClient, dataset: str, numbers: Sequence[str] | None = None
) -> list[Registered | Unusable]:
    """The versions of a dataset's classifier, oldest first; all of them, or those named."""
    versions = registry.versions_of(client, registry.model_name(dataset))
    asked = [version for version in versions if numbers is None or str(version.version) in numbers]
    return [_read_or_reason(client, dataset, version) for version in asked]


def evidence_run(client: tracking.MlflowClient, dataset: str, version: registry.ModelVersion) -> runs.Run:
    """The run that holds the version's heatmaps and scores.

    Raises:
        StudyError: it was deleted, or the version does not say which it is.
    """
    experiment, content_hash = tracking.find_experiment(client, dataset), version.tags.get(runs.CONTENT_HASH, "")
    found = runs.runs_with(client, experiment, content_hash) if experiment else []
    if run := runs.run_holding(found, content_hash):
        return run
    raise StudyError("the run with its heatmaps and scores is gone; check out the commit that made it, and publish")


def _read_or_reason(
    client: tracking.MlflowClient, dataset: str, version: registry.ModelVersion
) -> Registered | Unusable:
    try:
        return _read(client, dataset, version)
    except StudyError as error:
        return Unusable(str(version.version), version.tags.get(registry.MODEL, "?"), str(error))


def _read(client: tracking.MlflowClient, dataset: str, version: registry.ModelVersion) -> Registered:
    run = evidence_run(client, dataset, version)
    with tracking.local_copy(client, run.info.artifact_uri) as folder:
        if damaged := integrity.kept_problems(client, folder.as_uri(), version.tags[runs.CONTENT_HASH]):
            raise StudyError(f"files of its run are missing or altered ({', '.join(sorted(damaged)[:3])})")
        cell = read_cell(stage_folders(folder), dataset, run.data.tags[registry.MODEL])
        traits = read_traits(folder / "prepared")
        split = split_sha256(pd.read_csv(folder / "prepared" / "index.csv"), "test")
    _refuse_other_weights(client, version, cell)
    facts = VersionFacts(
        name=version.name,
        number=str(version.version),
        model=cell.model,
        checkpoint_sha256=cell.receipt.checkpoint_sha256,
        data_sha256=cell.receipt.data_sha256,
        split_sha256=split,
        run_id=run.info.run_id,
        created_ms=int(version.creation_timestamp),
    )
    return Registered(facts, cell, evidence_of([cell], {dataset: traits}), _answers(cell, traits))


def _refuse_other_weights(client: tracking.MlflowClient, version: registry.ModelVersion, cell: Cell) -> None:
    """What is served must be what was explained and scored."""
    model = registry.logged_model_of(client, version)
    if model is None:
        raise StudyError("its logged model was deleted; `python -m flows.publish` saves it again")
    with tracking.stored_file(client, model.artifact_location, f"artifacts/{CHECKPOINT}") as weights:
        found = sha256_of(weights) if weights else None
    if found is None:
        raise StudyError("its weights are gone; `python -m flows.publish` saves them again")
    if found != cell.receipt.checkpoint_sha256:
        raise StudyError("its heatmaps and scores belong to another checkpoint than its weights")


def _answers(cell: Cell, traits: pd.DataFrame) -> pd.DataFrame:
    names = dict(enumerate(cell.receipt.classes))
    table = cell.predictions.join(traits, on="row")
    return table.assign(label=table["label"].map(names), predicted=table["predicted"].map(names))
