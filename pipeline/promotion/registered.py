"""Registered versions with their evidence, read back from the files that MLflow keeps of each and not from its tags.

A version whose files are gone, were altered, or speak of another checkpoint or other data is named with the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline import integrity, registry, runs, tracking
from pipeline.data.prepared import read_traits
from pipeline.data.preparing.split import split_sha256
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.records import CHECKPOINT, Receipt
from pipeline.report.cells import NEEDED, Cell, read_cell, stage_folders
from pipeline.report.evidence import evidence_of


@dataclass(frozen=True)
class VersionFacts:
    name: str
    number: str
    model: str
    checkpoint_sha256: str
    data_sha256: str
    split_sha256: str  # of the test split
    evidence_sha256: str  # content hash of the run that holds its heatmaps and scores
    is_current: bool  # the study's files hold that run's content now


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
    experiment, content_hash = tracking.find_experiment(client, dataset), version.tags.get(runs.CONTENT_HASH)
    if content_hash is None:
        raise StudyError(f"it has no tag {runs.CONTENT_HASH}: published by an earlier program; publish it again")
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


def refuse_other_weights(client: tracking.MlflowClient, version: registry.ModelVersion, checkpoint_sha256: str) -> None:
    """What is served must be what was explained and scored.

    Raises:
        StudyError: its weights are gone or are others.
    """
    model = registry.logged_model_of(client, version)
    if model is None:
        raise StudyError("its logged model was deleted; `python -m flows.publish` saves it again")
    with tracking.stored_file(client, model.artifact_location, f"artifacts/{CHECKPOINT}") as weights:
        found = sha256_of(weights) if weights else None
    if found is None:
        raise StudyError("its weights are gone; `python -m flows.publish` saves them again")
    if found != checkpoint_sha256:
        raise StudyError("its heatmaps and scores belong to another checkpoint than its weights")


def refuse_other_evidence(
    client: tracking.MlflowClient, dataset: str, version: registry.ModelVersion, evidence_sha256: str
) -> None:
    """What was judged must be what the version shows.

    Raises:
        StudyError: its run is gone, was altered, or another has taken its place.
    """
    if version.tags.get(runs.CONTENT_HASH) != evidence_sha256:
        raise StudyError("its heatmaps or scores are others than those that were judged; run again to decide anew")
    run = evidence_run(client, dataset, version)
    _refuse_damaged(client, run.info.artifact_uri, evidence_sha256)


def _refuse_damaged(client: tracking.MlflowClient, uri: str, content_hash: str) -> None:
    if damaged := integrity.kept_problems(client, uri, content_hash, thorough=True):
        raise StudyError(f"files of its run are missing or altered ({', '.join(sorted(damaged)[:3])})")


def _read(client: tracking.MlflowClient, dataset: str, version: registry.ModelVersion) -> Registered:
    run, content_hash = evidence_run(client, dataset, version), version.tags[runs.CONTENT_HASH]
    with tracking.local_copy(client, run.info.artifact_uri) as folder:
        _refuse_damaged(client, folder.as_uri(), content_hash)
        files = _read_files(folder, dataset)
    receipt = files.cell.receipt
    refuse_other_weights(client, version, receipt.checkpoint_sha256)
    facts = VersionFacts(
        name=version.name,
        number=str(version.version),
        model=receipt.model,
        checkpoint_sha256=receipt.checkpoint_sha256,
        data_sha256=receipt.data_sha256,
        split_sha256=files.split_sha256,
        evidence_sha256=content_hash,
        is_current=run.data.tags.get(runs.CURRENT) == "true",
    )
    return Registered(facts, files.cell, files.evidence, files.answers)


@dataclass(frozen=True)
class _Files:
    """Of a version's run, as `Registered` has them."""

    cell: Cell
    evidence: pd.DataFrame
    answers: pd.DataFrame
    split_sha256: str


def _read_files(folder: Path, dataset: str) -> _Files:
    """All that a version is judged by; tags of a run are easily edited, so the receipt says whose files they are."""
    try:
        receipt = Receipt.read(folder / NEEDED["finetune"][0])
        if receipt.dataset != dataset:
            raise StudyError(f"its files are of {receipt.dataset}")
        cell, traits = read_cell(stage_folders(folder), dataset, receipt.model), read_traits(folder / "prepared")
        split = split_sha256(pd.read_csv(folder / "prepared" / "index.csv"), "test")
        return _Files(cell, evidence_of([cell], {dataset: traits}), _answers(cell, traits), split)
    except (OSError, KeyError, ValueError) as error:  # whole, as the manifest says, and yet not what is read today
        fault = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StudyError(f"its files are of an earlier form ({fault}); check out its commit and publish") from None


def _answers(cell: Cell, traits: pd.DataFrame) -> pd.DataFrame:
    names = dict(enumerate(cell.receipt.classes))
    table = cell.predictions.join(traits, on="row")
    return table.assign(label=table["label"].map(names), predicted=table["predicted"].map(names))
