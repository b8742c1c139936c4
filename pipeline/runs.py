"""MLflow runs written from files: found again by what they hold, and compared with what they are to hold.

A run counts only when it is finished and carries its content hash, which is set last; every other run of ours is the
leftover of a publication that was cut off. One process at a time writes. The content hash is that of `manifest.json`,
an artifact that lists the run's other artifacts with theirs: a run can be checked without the files it was made from.
"""

import math
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Param, Run

from pipeline.files import sha256_of
from pipeline.records import Manifest

T = TypeVar("T")

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100  # limits of MLflow's API

# Tags by which publication finds its own runs again.
SUBJECT = "subject"  # what the run is about: a cell or the study
CONTENT_HASH = "content_hash"
CURRENT = "current"  # "true" on the one run that shows the subject as it is now
COMMIT = "mlflow.source.git.commit"  # the one tag that does not follow from the files


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

    @cached_property
    def manifest(self) -> Manifest:
        files = {f"{folder}/{path.name}".lstrip("/"): sha256_of(path) for path, folder in self.artifacts}
        params = dict(sorted(self.params.items()))
        return Manifest(subject=self.subject, params=params, files=dict(sorted(files.items())))

    @property
    def content_hash(self) -> str:
        return self.manifest.sha256

    @property
    def last_metrics(self) -> dict[str, float]:
        """Every metric as the run's page shows it: of a curve the last epoch."""
        return {name: value for name, _, value in self.history} | dict(self.metrics)


def runs_of(client: MlflowClient, experiment: str, subject: str) -> list[Run]:
    """Our runs about a subject that are not deleted, newest first."""
    return list(client.search_runs([experiment], f"tags.{SUBJECT} = '{subject}'", max_results=1000))


def runs_with(client: MlflowClient, experiment: str, content_hash: str) -> list[Run]:
    return list(client.search_runs([experiment], f"tags.{CONTENT_HASH} = '{content_hash}'"))


def run_holding(runs: Sequence[Run], content_hash: str) -> Run | None:
    """The newest finished run that was made with this content."""
    return next((run for run in runs if counts(run) and run.data.tags[CONTENT_HASH] == content_hash), None)


def start_run(client: MlflowClient, experiment: str, content: RunContent) -> str:
    """The id of a new run with all its content but the metrics; it does not count before `finish_run`."""
    tags = {SUBJECT: content.subject, CURRENT: "false", **content.tags}
    run_id = client.create_run(experiment, run_name=content.subject, tags=tags).info.run_id
    if content.dataset:
        client.log_inputs(run_id, datasets=[_dataset_input(content.dataset)])
    params = [Param(key, value) for key, value in content.params.items()]
    for batch in _batches(params, PARAMS_PER_BATCH):
        client.log_batch(run_id, params=batch)
    log_artifacts(client, run_id, content, {*content.manifest.files, Manifest.file_name})
    return run_id


def log_artifacts(client: MlflowClient, run_id: str, content: RunContent, wanted: Collection[str]) -> None:
    """Those of the content's artifacts whose path is wanted, and the manifest if it is; what is there is replaced."""
    for path, folder in content.artifacts:
        if f"{folder}/{path.name}".lstrip("/") in wanted:
            client.log_artifact(run_id, str(path), folder or None)
    if Manifest.file_name in wanted:
        with tempfile.TemporaryDirectory() as folder:
            content.manifest.write(Path(folder))
            client.log_artifact(run_id, str(Path(folder) / Manifest.file_name))


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


def link_models(client: MlflowClient, run_id: str, model_ids: Sequence[str]) -> None:
    """Shows logged models on the run's page: as its output where the run made one, else as its input."""
    made = {model_id for model_id in model_ids if client.get_logged_model(model_id).source_run_id == run_id}
    if made:
        client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0) for model_id in made])
    if used := [LoggedModelInput(model_id) for model_id in model_ids if model_id not in made]:
        client.log_inputs(run_id, models=used)


def finish_run(client: MlflowClient, run_id: str, content: RunContent) -> None:
    """From here on the run counts."""
    client.set_terminated(run_id, "FINISHED")
    client.set_tag(run_id, CONTENT_HASH, content.content_hash)


def make_current(client: MlflowClient, run_id: str, runs: Sequence[Run], replaces: Mapping[str, str]) -> None:
    """Leaves `run_id` as the one current run of its subject among `runs`.

    Leftovers, and runs it `replaces` (they carry the same values of these tags), go to MLflow's bin; a run of an
    earlier checkpoint stays, as the evidence of its model version, and is no longer current.
    """
    for run in runs:
        if run.info.run_id == run_id:
            continue
        if not counts(run) or (replaces and replaces.items() <= run.data.tags.items()):
            client.delete_run(run.info.run_id)
        elif run.data.tags.get(CURRENT) != "false":
            client.set_tag(run.info.run_id, CURRENT, "false")
    if client.get_run(run_id).data.tags.get(CURRENT) != "true":
        client.set_tag(run_id, CURRENT, "true")


def edited_tags(run: Run, content: RunContent) -> list[str]:
    """Names of the tags that do not say what the files say; tags of a user's own are not ours to judge."""
    return [name for name, value in content.tags.items() if name != COMMIT and run.data.tags.get(name) != value]


def edited_values(run: Run, content: RunContent) -> list[str]:
    """Names of the params and metrics that do not; MLflow takes neither back, so that only a new run mends them."""
    params = [name for name, value in content.params.items() if run.data.params.get(name) != value]
    metrics = content.last_metrics.items()
    return params + [name for name, value in metrics if not _equal(run.data.metrics.get(name), value)]


def _equal(found: float | None, wanted: float) -> bool:
    return found is not None and (found == wanted or (math.isnan(found) and math.isnan(wanted)))


def counts(run: Run) -> bool:
    """Whether it was written to the end."""
    return run.info.status == "FINISHED" and CONTENT_HASH in run.data.tags


def _dataset_input(dataset: DatasetRef) -> DatasetInput:
    entity = Dataset(dataset.name, dataset.digest, "local", dataset.source, profile=dataset.profile)
    return DatasetInput(entity, [InputTag(key, value) for key, value in dataset.tags.items()])


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
