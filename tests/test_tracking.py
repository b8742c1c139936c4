"""Runs written to a real store and read back through MLflow's own client."""

import os
import shutil
import sqlite3
from pathlib import Path
from unittest import mock

import pytest

from pipeline import tracking
from pipeline.errors import StudyError
from pipeline.tracking import DatasetRef, RunContent

pytestmark = pytest.mark.slow

DATASET = DatasetRef("busi", "d" * 32, "{}", '{"images": 4}', {"dvc_md5": "m"})


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}):
        yield tracking.open_store()


@pytest.fixture
def experiment(client, request):
    return tracking.experiment_id(client, request.node.name)


def finished(client, experiment, content_hash, **tags):
    content = RunContent("busi-vit", tags=tags, artifacts=[(Path(__file__), "")])
    run_id = tracking.start_run(client, experiment, content)
    tracking.finish_run(client, run_id, content_hash)
    return run_id


def test_a_run_holds_its_content(client, experiment, tmp_path):
    (tmp_path / "scores.csv").write_text("auc\n")
    content = RunContent(
        "busi-vit", {"seed": "0"}, {"gradcam/insertion_auc": 0.4}, [("train_loss", 1, 0.9), ("train_loss", 2, 0.5)],
        {"arch": "tiny"}, [(tmp_path / "scores.csv", "tables")], DATASET,
    )  # fmt: skip
    run_id = tracking.start_run(client, experiment, content)
    tracking.log_metrics(client, run_id, content)
    run = client.get_run(run_id)
    assert run.info.run_name == "busi-vit"
    assert run.data.params == {"seed": "0"}
    assert run.data.metrics == {"gradcam/insertion_auc": 0.4, "train_loss": 0.5}
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "train_loss")] == [(1, 0.9), (2, 0.5)]
    assert run.data.tags["arch"] == "tiny"
    assert [file.path for file in client.list_artifacts(run_id, "tables")] == ["tables/scores.csv"]
    dataset = run.inputs.dataset_inputs[0]
    assert (dataset.dataset.name, dataset.dataset.digest, dataset.tags[0].value) == ("busi", "d" * 32, "m")


def test_more_metrics_and_params_than_one_request_takes(client, experiment):
    content = RunContent("s", {f"p{i}": "1" for i in range(150)}, history=[("loss", i, 1.0) for i in range(1500)])
    run_id = tracking.start_run(client, experiment, content)
    tracking.log_metrics(client, run_id, content)
    assert len(client.get_metric_history(run_id, "loss")) == 1500
    assert len(client.get_run(run_id).data.params) == 150


def test_only_a_finished_run_with_its_hash_is_in_step(client, experiment):
    cut_off = tracking.start_run(client, experiment, RunContent("busi-vit"))
    client.set_tag(cut_off, tracking.CONTENT_HASH, "h")  # MLflow would list it as RUNNING for ever
    runs = tracking.runs_of(client, experiment, "busi-vit")
    assert [run.info.run_id for run in runs] == [cut_off]
    assert tracking.run_in_step(runs, "h") is None
    run_id = finished(client, experiment, "h")
    runs = tracking.runs_of(client, experiment, "busi-vit")
    assert tracking.run_in_step(runs, "h").info.run_id == run_id
    assert tracking.run_in_step(runs, "other") is None


def test_a_run_whose_artifacts_were_deleted_is_not_in_step(client, experiment):
    run = client.get_run(finished(client, experiment, "h"))
    assert tracking.run_in_step([run], "h")
    shutil.rmtree(run.info.artifact_uri.removeprefix("file://"))
    assert tracking.run_in_step([run], "h") is None


def test_leftovers_and_replaced_runs_go_and_earlier_checkpoints_stay(client, experiment):
    earlier = finished(client, experiment, "h1", checkpoint="a")
    finished(client, experiment, "h2", checkpoint="b")
    tracking.start_run(client, experiment, RunContent("busi-vit"))  # cut off
    now = finished(client, experiment, "h3", checkpoint="b")
    tracking.make_current(client, now, tracking.runs_of(client, experiment, "busi-vit"), {"checkpoint": "b"})
    left = {run.info.run_id: run.data.tags["current"] for run in tracking.runs_of(client, experiment, "busi-vit")}
    assert left == {earlier: "false", now: "true"}


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
