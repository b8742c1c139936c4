"""MLflow's model registry: one registered model per dataset, one version per checkpoint, with its evidence on it.

A version is found again by the hash of its checkpoint. Its tags and description show the scores as they are now; its
logged model keeps earlier values of a metric beside the newest, for MLflow takes none back.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry import RegisteredModel as MlflowRegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

CHECKPOINT = "checkpoint_sha256"
MODEL = "model"
TEST_SPLIT = "test_split_sha256"
EVIDENCE_RUN = "evidence_run"  # the run that holds the heatmaps and scores of a version as they are now
MANIFEST = "manifest_sha256"  # of a logged model: the hash of the list of its files
EXPLAINS = "explain_settings"  # of a logged model: what it tells its methods
CONTEXT = ("git_commit", "dvc_md5", "data_revision")  # tags of where files came from, which do not follow from them


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
    params: Mapping[str, str] = field(default_factory=dict)  # of the logged model
    model_tags: Mapping[str, str] = field(default_factory=dict)  # of the logged model, as it was last saved

    @property
    def identity(self) -> dict[str, str]:
        return identity_of(self.tags)


def identity_of(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags by which a version is found again."""
    return {key: tags[key] for key in (MODEL, CHECKPOINT)}


def ensure_registered_model(client: MlflowClient, wanted: RegisteredModel) -> None:
    found = _registered_model(client, wanted.name)
    if found is None:
        client.create_registered_model(wanted.name, dict(wanted.tags), wanted.description)
        return
    if found.description != wanted.description:
        client.update_registered_model(wanted.name, wanted.description)
    for key, value in wanted.tags.items():
        if found.tags.get(key) != value:
            client.set_registered_model_tag(wanted.name, key, value)


def edited_model_fields(client: MlflowClient, wanted: RegisteredModel) -> list[str]:
    """Which of description and tags of a registered model do not say what they should; all where there is none."""
    found = _registered_model(client, wanted.name)
    if found is None:
        return ["all"]
    edited = [key for key, value in wanted.tags.items() if found.tags.get(key) != value]
    return edited if found.description == wanted.description else ["description", *edited]


def model_name(dataset: str) -> str:
    """What the registered model of a dataset is called."""
    return f"{dataset}-classifier"


def find_version(
    client: MlflowClient, name: str, identity: Mapping[str, str], model_id: str | None = None
) -> ModelVersion | None:
    """The version of a checkpoint: by its tags, or, should those have been edited, by its logged model."""
    if found := client.search_model_versions(f"name = '{name}' and {_filter(identity)}"):
        return found[0]
    return next((each for each in versions_of(client, name) if model_id and model_id_of(each) == model_id), None)


def versions_of(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Oldest first."""
    return sorted(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))


def model_id_of(version: ModelVersion) -> str:
    """Of the logged model behind it, which may have been deleted."""
    return str(version.source).rpartition("/")[2]


def logged_model_of(client: MlflowClient, version: ModelVersion) -> LoggedModel | None:
    """None where it was deleted."""
    try:
        return client.get_logged_model(model_id_of(version))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def ensure_logged_model(
    client: MlflowClient,
    experiment: str,
    run_id: str,
    content: VersionContent,
    save: Callable[[LoggedModel, Path], str],
    is_whole: bool,
) -> str:
    """The id of the logged model that holds this checkpoint: found whole, else saved by `save` and uploaded.

    A model whose files were deleted or altered is filled anew under its old id, as a version may point to it; one that
    was never finished is the leftover of a publication that was cut off, and goes.

    Args:
        save: writes the model's files into a folder and returns the hash of their manifest.
        is_whole: what is there needs no saving.
    """
    _clear_unfinished_models(client, experiment, content.identity)
    model = find_logged_model(client, experiment, content.identity)
    if model and is_whole:
        return model.model_id
    if model is None:
        tags, params = dict(content.identity), dict(content.params)
        model = client.create_logged_model(experiment, content.tags[MODEL], run_id, tags, params, "classifier")
    with tempfile.TemporaryDirectory() as folder:
        manifest_sha256 = save(model, Path(folder) / "model")
        client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
    client.set_logged_model_tags(model.model_id, {**content.model_tags, MANIFEST: manifest_sha256})
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return model.model_id


def ensure_version(client: MlflowClient, name: str, run_id: str, model_id: str, content: VersionContent) -> str:
    """The number of the version of this checkpoint, showing `content`; created if there is none."""
    version = find_version(client, name, content.identity, model_id)
    if version is None:
        source, tags = f"models:/{model_id}", dict(content.tags)
        version = client.create_model_version(name, source, run_id, tags, None, content.description, 0, model_id)
        # MLflow's own `register_model` leaves this too: the logged model's page shows its version by it.
        link = [{"name": name, "version": str(version.version)}]
        client.set_logged_model_tags(model_id, {MLFLOW_MODEL_VERSIONS: json.dumps(link)})
    else:
        _update_version(client, version, content)
    return str(version.version)


def edited_tags(version: ModelVersion, content: VersionContent) -> list[str]:
    """Names of the tags that do not say what the files say; tags of a user's own are not ours to judge."""
    wanted = {key: value for key, value in content.tags.items() if key not in CONTEXT}
    edited = [key for key, value in wanted.items() if version.tags.get(key) != value]
    return edited + _stale_metrics(version.tags, content.tags)


def add_context(client: MlflowClient, version: ModelVersion, content: VersionContent) -> None:
    """Tags of where the files came from that could not be told before: a commit may follow its study."""
    for key in CONTEXT:
        if key in content.tags and key not in version.tags:
            client.set_model_version_tag(version.name, version.version, key, content.tags[key])


def _update_version(client: MlflowClient, version: ModelVersion, content: VersionContent) -> None:
    for key in _stale_metrics(version.tags, content.tags):
        client.delete_model_version_tag(version.name, version.version, key)
    same_evidence = version.tags.get(EVIDENCE_RUN) == content.tags[EVIDENCE_RUN]
    kept = [key for key in CONTEXT if same_evidence and key in version.tags]  # where its files came from stays so
    for key, value in content.tags.items():
        if version.tags.get(key) != value and key not in kept:
            client.set_model_version_tag(version.name, version.version, key, value)
    if version.description != content.description:
        client.update_model_version(version.name, version.version, content.description)


def _stale_metrics(present: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Metric tags, `<method>/<metric>`, of a method that is no longer scored; a user's own tags stay."""
    metrics = {key.rpartition("/")[2] for key in wanted if "/" in key}
    return [key for key in present if "/" in key and key not in wanted and key.rpartition("/")[2] in metrics]


def find_logged_model(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> LoggedModel | None:
    """The finished logged model of a checkpoint."""
    found = client.search_logged_models([experiment], _filter(identity))
    return next((model for model in found if model.status == LoggedModelStatus.READY), None)


def _clear_unfinished_models(client: MlflowClient, experiment: str, identity: Mapping[str, str]) -> None:
    for model in client.search_logged_models([experiment], _filter(identity)):
        if model.status != LoggedModelStatus.READY:
            client.delete_logged_model(model.model_id)


def _filter(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.{key} = '{value}'" for key, value in tags.items())


def aliases_of(client: MlflowClient, name: str) -> dict[str, str]:
    """Alias -> number of the version that has it; none where there is no such model."""
    found = _registered_model(client, name)
    return {alias: str(version) for alias, version in found.aliases.items()} if found else {}


def model_tags(client: MlflowClient, name: str) -> dict[str, str]:
    """Of the registered model; none where there is no such model."""
    found = _registered_model(client, name)
    return dict(found.tags) if found else {}


def move_aliases(client: MlflowClient, name: str, wanted: Mapping[str, str | None], never_absent: str) -> None:
    """Leaves each alias on its version, or on none.

    On the way no version has two of them that it is not to keep, and the alias `never_absent` always has a version: it
    goes from one to the next at once, after the others are taken off.
    """
    present = aliases_of(client, name)
    changed = [alias for alias, version in wanted.items() if present.get(alias) != version]
    for alias in changed:
        if alias in present and (alias != never_absent or wanted[alias] is None):
            client.delete_registered_model_alias(name, alias)
    for alias in sorted(changed, key=lambda each: each != never_absent):
        if version := wanted[alias]:
            client.set_registered_model_alias(name, alias, version)


def checkpoint_of(client: MlflowClient, version: ModelVersion) -> str | None:
    """As its logged model has it, for tags of a version are easily edited; where that is gone, by its own tag."""
    model = logged_model_of(client, version)
    return (model.tags.get(CHECKPOINT) if model else None) or version.tags.get(CHECKPOINT)


def find_by_checkpoint(client: MlflowClient, name: str, checkpoint_sha256: str) -> ModelVersion | None:
    versions = versions_of(client, name)
    return next((each for each in versions if checkpoint_of(client, each) == checkpoint_sha256), None)


def tag_version(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)


def _registered_model(client: MlflowClient, name: str) -> MlflowRegisteredModel | None:
    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
