"""Model versions and their evidence, read back through MLflow's own client."""

import os
from unittest import mock

import pytest

from pipeline import registry, tracking
from pipeline.registry import RegisteredModel, VersionContent

pytestmark = pytest.mark.slow

NAME = "busi-classifier"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}):
        client = tracking.open_store()
        registry.ensure_registered_model(client, RegisteredModel(NAME, "Classifiers", {"classes": "a, b"}))
        yield client


@pytest.fixture
def experiment(client, request):
    return tracking.experiment_id(client, request.node.name)


def content(checkpoint, description="text", **tags):
    metrics = {key.replace("__", "/"): value for key, value in tags.items()}
    told = {"content_hash": "h", "evidence_run": "r", "model": "vit", "checkpoint_sha256": checkpoint}
    return VersionContent(told | metrics, description)


def save(model, folder):
    folder.mkdir()
    (folder / "MLmodel").write_text(model.model_id)
    return "hash of its manifest"


def register(client, experiment, wanted):
    run_id = client.create_run(experiment).info.run_id
    is_whole = registry.find_logged_model(client, experiment, wanted.identity) is not None
    model_id = registry.ensure_logged_model(client, experiment, run_id, wanted, save, is_whole)
    return registry.ensure_version(client, NAME, run_id, model_id, wanted)


def test_a_checkpoint_has_one_version(client, experiment):
    assert register(client, experiment, content("one")) == register(client, experiment, content("one"))
    assert register(client, experiment, content("two")) != register(client, experiment, content("one"))
    assert len(client.search_logged_models([experiment])) == 2


def test_a_version_shows_the_newest_scores(client, experiment):
    number = register(client, experiment, content("scored", "old", gradcam__insertion_auc="0.4000"))
    register(client, experiment, content("scored", "new", gradcam__insertion_auc="0.5000"))
    version = client.get_model_version(NAME, number)
    assert version.tags["gradcam/insertion_auc"] == "0.5000"
    assert version.description == "new"


def test_metrics_of_a_method_no_longer_scored_go_and_a_users_tags_stay(client, experiment):
    number = register(client, experiment, content("tags", gradcam__insertion_auc="0.4", edge__insertion_auc="0.3"))
    client.set_model_version_tag(NAME, number, "review/by", "a person")
    register(client, experiment, content("tags", gradcam__insertion_auc="0.4"))
    tags = client.get_model_version(NAME, number).tags
    assert "edge/insertion_auc" not in tags
    assert tags["review/by"] == "a person"


def test_an_alias_stays_when_scores_change(client, experiment):
    number = register(client, experiment, content("alias"))
    client.set_registered_model_alias(NAME, "champion", number)
    register(client, experiment, content("alias", gradcam__insertion_auc="0.9"))
    assert str(client.get_model_version_by_alias(NAME, "champion").version) == number


def test_a_logged_model_that_was_never_finished_is_replaced(client, experiment):
    wanted = content("cut off")
    left = client.create_logged_model(experiment, "vit", tags=wanted.identity)
    number = register(client, experiment, wanted)
    model = registry.logged_model_of(client, client.get_model_version(NAME, number))
    assert model.model_id != left.model_id
    assert [found.model_id for found in client.search_logged_models([experiment])] == [model.model_id]


def test_a_deleted_version_is_registered_again_from_its_logged_model(client, experiment):
    number = register(client, experiment, content("deleted"))
    client.delete_model_version(NAME, number)
    register(client, experiment, content("deleted"))
    assert len(client.search_logged_models([experiment])) == 1


def test_a_registered_model_is_brought_up_to_date(client):
    registry.ensure_registered_model(client, RegisteredModel(NAME, "Better words", {"classes": "a, b, c"}))
    found = client.get_registered_model(NAME)
    assert (found.description, found.tags["classes"]) == ("Better words", "a, b, c")


def test_where_files_came_from_is_told_once_for_the_same_evidence(client, experiment):
    number = register(client, experiment, content("origin", git_commit="first"))
    register(client, experiment, content("origin", "new words", git_commit="later", data_revision="abc"))
    tags = client.get_model_version(NAME, number).tags
    assert (tags["git_commit"], tags["data_revision"]) == ("first", "abc")
    register(client, experiment, content("origin", git_commit="third", evidence_run="another"))
    assert client.get_model_version(NAME, number).tags["git_commit"] == "third"
