"""MLflow's tracking store: where it is, whether it answers, and runs written to it from files.

A run counts only when it is finished and carries its content hash, which is set last; every other run of ours is the
leftover of a publication that was cut off. One process at a time writes.
"""

import logging
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from mlflow import MlflowClient
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
)
from mlflow.exceptions import MlflowException

from pipeline.errors import StudyError

T = TypeVar("T")

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
ANSWER_TIMEOUT_S = 5
DATABASE_PORTS = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SERVER_PORTS = {"http": 80, "https": 443}

# Set before the store is first used; a user's own setting wins.
SETTINGS = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is lost half-way is noticed in seconds, not in minutes
}
TALKATIVE = ("mlflow.store.db.utils", "alembic", "mlflow.pyfunc", "mlflow.models.model")

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # limits of MLflow's API

# Tags by which publication finds its own runs again.
SUBJECT = "subject"  # what the run is about: a cell or the study
CONTENT_HASH = "content_hash"
CURRENT = "current"  # "true" on the one run that shows the subject as it is now


@dataclass(frozen=True)
class DatasetRef:
    """The data of a run as MLflow shows it: where the files lie, their hash, what they hold."""

    name: str
    digest: str  # at most 36 characters
    source: str
    profile: str  # JSON
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RunContent:
    """All that a run is to hold."""

    subject: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[tuple[str, int, float]] = ()  # metric, epoch, value
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Sequence[tuple[Path, str]] = ()  # file, folder among the run's artifacts ("" is the top)
    dataset: DatasetRef | None = None


def tracking_uri() -> str:
    """The store of MLFLOW_TRACKING_URI, else the database in the current folder."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{Path('mlflow.db').absolute()}"


def artifact_root() -> str:
    """The folder, as a URI, for artifacts of a database that is opened without a server: `mlartifacts` beside it.

    An absolute file URI is the one form that this process and a server on the same database both can read.
    """
    uri = tracking_uri()
    folder = _sqlite_path(uri).absolute().parent if uri.startswith(SQLITE) else Path.cwd()
    return (folder / "mlartifacts").as_uri()


def open_store() -> MlflowClient:
    """A client of the store; the database is created at the first opening.

    Raises:
        StudyError: nothing answers there, or what answers is not a store of this MLflow.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri()
    try:
        _probe(uri)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # a database driver, SQLAlchemy, alembic or requests: each has its own
        raise StudyError(_unreachable(uri, error)) from None
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name: found, brought back from the bin, or created.

    Raises:
        StudyError: its artifacts lie where this process cannot write.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=_artifact_location(name))
    _check_location(name, experiment.artifact_location)
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def runs_of(client: MlflowClient, experiment: str, subject: str) -> list[Run]:
    """Our runs about a subject that are not deleted, newest first."""
    return list(client.search_runs([experiment], f"tags.{SUBJECT} = '{subject}'", max_results=1000))


def run_in_step(runs: Sequence[Run], content_hash: str) -> Run | None:
    """The finished run that holds this content and whose artifacts, which every run of ours has, are still there."""
    for run in runs:
        finished = run.info.status == "FINISHED" and run.data.tags.get(CONTENT_HASH) == content_hash
        if finished and artifacts_exist(run.info.artifact_uri):
            return run
    return None


def artifacts_exist(uri: str) -> bool:
    """Whether a folder of artifacts is there; one that is not on this machine's disk is believed to be."""
    path = _local_path(uri)
    return path is None or path.is_dir()


def start_run(client: MlflowClient, experiment: str, content: RunContent) -> str:
    """The id of a new run with all its content but the metrics; it does not count before `finish_run`."""
    tags = {SUBJECT: content.subject, CURRENT: "false", **content.tags}
    run_id = client.create_run(experiment, run_name=content.subject, tags=tags).info.run_id
    if content.dataset:
        client.log_inputs(run_id, datasets=[_dataset_input(content.dataset)])
    params = [Param(key, value) for key, value in content.params.items()]
    for batch in _batches(params, PARAMS_PER_BATCH):
        client.log_batch(run_id, params=batch)
    for path, folder in content.artifacts:
        client.log_artifact(run_id, str(path), folder or None)
    return run_id


def log_metrics(client: MlflowClient, run_id: str, content: RunContent, model_id: str | None = None) -> None:
    """Writes the curves of training to the run, and the other metrics to the run and to the logged model."""
    now_ms = int(time.time() * 1000)
    data = (content.dataset.name, content.dataset.digest) if content.dataset else (None, None)
    metrics = [Metric(name, value, now_ms, step) for name, step, value in content.history]
    metrics += [
        Metric(name, value, now_ms, 0, model_id, data[0], data[1], run_id) for name, value in content.metrics.items()
    ]
    for batch in _batches(metrics, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=batch)


def link_model(client: MlflowClient, run_id: str, model_id: str) -> None:
    """Shows the logged model on the run's page: as its output where the run made it, else as its input."""
    if client.get_logged_model(model_id).source_run_id == run_id:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
    else:
        client.log_inputs(run_id, models=[LoggedModelInput(model_id)])


def finish_run(client: MlflowClient, run_id: str, content_hash: str) -> None:
    """From here on the run counts."""
    client.set_terminated(run_id, "FINISHED")
    client.set_tag(run_id, CONTENT_HASH, content_hash)


def make_current(client: MlflowClient, run_id: str, runs: Sequence[Run], replaces: Mapping[str, str]) -> None:
    """Leaves `run_id` as the one current run of its subject among `runs`.

    Leftovers, and runs it `replaces` (they carry the same values of these tags), go to MLflow's bin; a run of an
    earlier checkpoint stays, as the evidence of its model version, and is no longer current.
    """
    for run in runs:
        if run.info.run_id == run_id:
            continue
        if not _counts(run) or (replaces and replaces.items() <= run.data.tags.items()):
            client.delete_run(run.info.run_id)
        elif run.data.tags.get(CURRENT) != "false":
            client.set_tag(run.info.run_id, CURRENT, "false")
    if client.get_run(run_id).data.tags.get(CURRENT) != "true":
        client.set_tag(run_id, CURRENT, "true")


def _counts(run: Run) -> bool:
    return run.info.status == "FINISHED" and CONTENT_HASH in run.data.tags


def _dataset_input(dataset: DatasetRef) -> DatasetInput:
    entity = Dataset(dataset.name, dataset.digest, "local", dataset.source, profile=dataset.profile)
    return DatasetInput(entity, [InputTag(key, value) for key, value in dataset.tags.items()])


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _artifact_location(experiment: str) -> str | None:
    """None leaves the choice to a server."""
    return f"{artifact_root()}/{experiment}" if _scheme(tracking_uri()) in DATABASE_PORTS else None


def _check_location(experiment: str, location: str) -> None:
    uri = tracking_uri()
    if not uri.startswith(SQLITE):
        return
    path, root = _local_path(location), _local_path(artifact_root())
    if path is None:
        raise StudyError(
            f"{_sqlite_path(uri)}: experiment {experiment} keeps its artifacts behind an MLflow server; "
            f"set {URI_VARIABLE} to the server's address"
        )
    if root is not None and not path.is_relative_to(root):
        raise StudyError(
            f"{_sqlite_path(uri)}: keeps its artifacts in {path}, outside {root}: the folder was moved; "
            "delete mlflow.db and mlartifacts, then `dvc repro publish` rebuilds both"
        )


def _local_path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _sqlite_path(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def _probe(uri: str) -> None:
    """Fails within seconds where nothing answers: MLflow and SQLAlchemy would try again for minutes."""
    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(_sqlite_path(uri))) as database:
            database.execute("PRAGMA schema_version")
        return
    parts = urlsplit(uri)
    port = parts.port or (DATABASE_PORTS | SERVER_PORTS).get(_scheme(uri))
    if parts.hostname and port and not _behind_proxy(uri):
        socket.create_connection((parts.hostname, port), timeout=ANSWER_TIMEOUT_S).close()


def _behind_proxy(uri: str) -> bool:
    """Whether the way to `uri` leads through a proxy, so that its own host need not answer."""
    return _scheme(uri) in getproxies() and not proxy_bypass(urlsplit(uri).hostname or "")


def _scheme(uri: str) -> str:
    """`postgresql` of `postgresql+psycopg2://...`"""
    return urlsplit(uri).scheme.partition("+")[0]


def _unreachable(uri: str, error: Exception) -> str:
    reason = str(error.message if isinstance(error, MlflowException) else error).strip().splitlines() or [repr(error)]
    if os.environ.get(URI_VARIABLE):
        where, remedy = f"{URI_VARIABLE}={_without_password(uri)}", f"start that store, or unset {URI_VARIABLE}"
    else:
        where, remedy = str(_sqlite_path(uri)), "move it away and run `dvc repro publish`, which rebuilds it"
    return f"{where}: cannot be opened as an MLflow store ({reason[0]}); {remedy}"


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri
