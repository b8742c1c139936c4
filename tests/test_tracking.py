"""Stores that are opened, and experiments and files in them, by MLflow's own client."""

import os
import sqlite3
from pathlib import Path

import pytest

from pipeline import tracking
from pipeline.errors import StudyError

pytestmark = pytest.mark.slow


def test_a_deleted_experiment_comes_back(client, experiment):
    client.delete_experiment(experiment)
    name = client.get_experiment(experiment).name
    assert tracking.experiment_id(client, name) == experiment
    assert client.get_experiment(experiment).lifecycle_stage == "active"


def test_artifacts_lie_beside_the_database(client, experiment):
    location = client.get_experiment(experiment).artifact_location
    folder = Path(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///")).parent
    assert location.startswith((folder / "mlartifacts").as_uri() + "/")


@pytest.mark.parametrize(
    ("location", "reason"), [("mlflow-artifacts:/7", "behind an MLflow server"), ("file:///moved/x", "was moved")]
)
def test_an_experiment_that_cannot_be_written_to_is_refused(client, location, reason):
    client.create_experiment(reason, artifact_location=location)
    with pytest.raises(StudyError, match=reason):
        tracking.experiment_id(client, reason)


def test_without_a_variable_the_store_is_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking.artifact_root() == f"file://{tmp_path}/mlartifacts"


@pytest.mark.parametrize("uri", ["http://me:secret@127.0.0.1:9", "postgresql://me:secret@127.0.0.1:9/mlflow"])
def test_a_store_that_does_not_answer_is_one_line_about_the_variable(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(StudyError, match=r"MLFLOW_TRACKING_URI=.*unset MLFLOW_TRACKING_URI") as caught:
        tracking.open_store()
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_text("not a database" * 100)
    with pytest.raises(StudyError, match=r"mlflow\.db: cannot be opened.*rebuilds"):
        tracking.open_store()


def test_a_database_of_another_program_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with sqlite3.connect(tmp_path / "other.db") as database:
        database.execute("create table alembic_version (version_num text)")
        database.execute("insert into alembic_version values ('ffffffffffff')")
    with pytest.raises(StudyError, match="cannot be opened as an MLflow store"):
        tracking.open_store()


@pytest.mark.parametrize(("given", "root"), [("s3://study/", "s3://study"), ("kept", "file://{folder}/kept")])
def test_artifacts_go_where_the_variable_says(monkeypatch, tmp_path, given, root):
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", given)
    monkeypatch.chdir(tmp_path)
    assert tracking.artifact_root() == root.format(folder=tmp_path)


def test_artifacts_behind_a_server_are_not_written_past_it(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@127.0.0.1:9/mlflow")
    with pytest.raises(StudyError, match=r"postgresql://me:\*\*\*@127.0.0.1:9/mlflow: .* behind an MLflow server"):
        tracking._check_location("busi", "mlflow-artifacts:/1")
