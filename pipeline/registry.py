"""MLflow's model registry: one registered model per dataset, one version per checkpoint, with its evidence on it.

A version is found again by the hash of its checkpoint. Its tags and description show the scores as they are now; its
logged model keeps earlier values of a metric beside the newest, for MLflow takes none back.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

CHECKPOINT = "checkpoint_sha256"
MODEL = "model"


@dataclass(frozen=True)
class RegisteredModel:
    name: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class VersionContent:
    """What a version is to show: `tags` hold its identity (model, checkpoint_sha256, ...) and its metrics."""

    tags: Mapping[str, str]
    description: str  # Markdown

    @property
    def identity(self) -> dict[str, str]:
        return identity_of(self.tags)


def identity_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags by which a version is found again."""
    return {key: tags[key] for key in (MODEL, CHECKPOINT)}


def ensure_registered_model(client: MlflowClient, wanted: RegisteredModel) -> None:
    try:
        found = client.get_registered_model(wanted.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(wanted.name, dict(wanted.tags), wanted.description)
        return
    if found.description != wanted.description:
        client.update_registered_model(wanted.name, wanted.description)
    for key, value in wanted.tags.items():
        if found.tags.get(key) != value:
            client.set_registered_model_tag(wanted.name, key, value)


def find_version(client: MlflowClient, name: str, identity: Mapping[str, str]) -> ModelVersion | None:
    found = client.search_model_versions(f"name = '{name}' and {_filter(identity)}")
    return found[0] if found else None


def logged_model_of(client: MlflowClient, version: ModelVersion) -> LoggedModel:
    return client.get_logged_model(str(version.source).rpartition("/")[2])


def ensure_logged_model(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    content: VersionContent,
    save: Callable[[LoggedModel, Path], None],
    is_whole: Callable[[LoggedModel], bool],
) -> str:
    """The id of the logged model that holds this checkpoint: found whole, else saved by `save` and uploaded.

    A model whose files were deleted is filled anew under its old id, as a version may point to it; one that was never
    finished is the leftover of a publication that was cut off, and goes.
    """
    model = _find_logged_model(client, experiment, content.identity)
    if model and is_whole(model):
        return model.model_id
    if model is None:
        model = client.create_logged_model(
            experiment, content.tags[MODEL], run_id, dict(content.identity), model_type="classifier"
        )
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder) / "model")
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model.model_id


def ensure_version(client: MlflowClient, name: str, run_id: str, model_id: str, content: VersionContent) -> str:
    """The number of the version of this checkpoint, showing `content`; created if there is none."""
    version = find_version(client, name, content.identity)
    if version is None:
        source = f"models:/{model_id}"
        return str(
            client.create_model_version(
                name, source, run_id, dict(content.tags), None, content.description, 0, model_id
            ).version
        )
    _update_version(client, version, content)
    return str(version.version)


def _update_version(client: MlflowClient, version: ModelVersion, content: VersionContent) -> None:
    for key in _stale_metrics(version.tags, content.tags):
        client.delete_model_version_tag(version.name, version.version, key)
    for key, value in content.tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(version.name, version.version, key, value)
    if version.description != content.description:
        client.update_model_version(version.name, version.version, content.description)


def _stale_metrics(present: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Metric tags, `<method>/<metric>`, of a method that is no longer scored; a user's own tags stay."""
    metrics = {key.rpartition("/")[2] for key in wanted if "/" in key}
    return [key for key in present if "/" in key and key not in wanted and key.rpartition("/")[2] in metrics]


def _find_logged_model(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> LoggedModel | None:
    ready = None
    for model in client.search_logged_models([experiment], _filter(identity)):
        if model.status == LoggedModelStatus.READY:
            ready = model
        else:
            client.delete_logged_model(model.model_id)
    return ready


def _filter(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())
