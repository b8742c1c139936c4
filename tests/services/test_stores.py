"""One contract for every store: what is published is there once, complete, and can be loaded and promoted."""

import base64
import io
import os
import urllib.request
from unittest import mock

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline import registry
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Summary
from pipeline.tracking import MlflowClient
from tests.cells import PublishedStudy, give_checkpoint, make_finished_study
from tests.services.servers import mlflow_server_of_make_ui, started
from tests.services.stores import postgresql_and_s3

pytestmark = pytest.mark.slow

NAME = "busi-classifier"


def rows_of(images: np.ndarray) -> pd.DataFrame:
    """Image files in base64, as clients send them."""

    def encoded(image: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        return base64.b64encode(buffer.getvalue()).decode()

    return pd.DataFrame({"image": [encoded(image) for image in images]})


def contents(client):
    """Runs, versions and logged models by their ids."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return (
        {run.info.run_id for run in client.search_runs(experiments)},
        {version.version for version in client.search_model_versions(f"name = '{NAME}'")},
        {model.model_id for model in client.search_logged_models(experiments)},
    )


def test_publishing_twice_writes_once(study):
    before = contents(study.client)
    assert not any(published.created for published in study.publish())
    assert contents(study.client) == before


def test_a_change_made_in_mlflow_is_found_and_set_right(study):
    assert study.check() == []
    wanted = study.client.get_model_version(NAME, "1").tags["gradcam/insertion_auc"]
    study.client.set_model_version_tag(NAME, "1", "gradcam/insertion_auc", "0.9999")
    assert [drift.problem for drift in study.check()] == ["version 1: tags edited: gradcam/insertion_auc"]
    study.publish()
    assert study.client.get_model_version(NAME, "1").tags["gradcam/insertion_auc"] == wanted
    assert study.check() == []


def test_an_altered_file_of_a_run_or_a_model_is_found_and_mended(study, tmp_path):
    version = study.client.get_model_version(NAME, "1")
    (tmp_path / "scores.csv").write_text("method,auc\ngradcam,1.0\n")
    study.client.log_artifact(version.tags["evidence_run"], str(tmp_path / "scores.csv"), "scores")
    (tmp_path / "model" / "artifacts").mkdir(parents=True)
    (tmp_path / "model" / "artifacts" / "receipt.json").write_text("{}")
    study.client.log_model_artifacts(version.source.rpartition("/")[2], str(tmp_path / "model"))
    assert [drift.problem for drift in study.check()] == [
        "run: files altered: scores/scores.csv",
        "logged model: files altered: artifacts/receipt.json",
    ]
    study.publish(thorough=True)
    assert study.check() == []


def test_a_run_holds_metrics_curves_and_files(study, tmp_path):
    run_id = study.publish()[0].run_id
    summary = Summary.read(study.data / "scores/busi/vit")
    run = study.client.get_run(run_id)
    assert run.data.metrics["gradcam/insertion_auc"] == summary.metrics["gradcam"]["insertion_auc"]
    losses = study.client.get_metric_history(run_id, "train_loss")
    assert [loss.value for loss in losses] == [1.0, 0.7, 0.5, 0.4, 0.3]
    downloaded = study.client.download_artifacts(run_id, "scores/scores.csv", str(tmp_path))
    with open(downloaded, "rb") as file:
        assert file.read() == (study.data / "scores/busi/vit/scores.csv").read_bytes()


def test_a_version_carries_its_evidence(study):
    version = study.client.get_model_version(NAME, "1")
    summary = Summary.read(study.data / "scores/busi/vit")
    assert version.tags["checkpoint_sha256"] == summary.checkpoint_sha256
    assert version.tags["gradcam/insertion_auc"] == f"{summary.metrics['gradcam']['insertion_auc']:.4f}"
    assert version.description.startswith("# vit on busi")
    metrics = {metric.key: metric.value for metric in registry.logged_model_of(study.client, version).metrics}
    assert metrics["edge/deletion_auc"] == summary.metrics["edge"]["deletion_auc"]


def test_the_registered_model_predicts_what_its_checkpoint_does(study):
    images = np.load(study.data / "prepared/busi/images.npy")[:3]
    classifier, description = load_checkpoint(study.data / "models/busi/vit/model.safetensors")
    with torch.inference_mode():
        own = classifier(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).softmax(dim=1).numpy()
    answer = mlflow.pyfunc.load_model(f"models:/{NAME}/1").predict(rows_of(images))
    np.testing.assert_allclose(answer[[f"p_{name}" for name in description.classes]], own, atol=1e-5)


def test_an_alias_moves_to_a_new_version_and_back_and_goes(study):
    client = study.client
    give_checkpoint(study.data, "busi", "vit", seed=1)
    second = study.publish()[0].version
    give_checkpoint(study.data, "busi", "vit", seed=0)
    assert second == "2"
    for number in ("1", second, "1"):
        client.set_registered_model_alias(NAME, "champion", number)
        assert str(client.get_model_version_by_alias(NAME, "champion").version) == number
    first = registry.logged_model_of(client, client.get_model_version(NAME, "1"))
    assert mlflow.pyfunc.load_model(f"models:/{NAME}@champion").metadata.model_id == first.model_id
    client.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(MlflowException, match="champion"):
        client.get_model_version_by_alias(NAME, "champion")


def test_a_versions_tag_is_found_changed_and_goes(study):
    client = study.client
    for value in ("open", "passed"):
        client.set_model_version_tag(NAME, "1", "review", value)
        found = client.search_model_versions(f"name = '{NAME}' and tags.review = '{value}'")
        assert [str(version.version) for version in found] == ["1"]
    client.delete_model_version_tag(NAME, "1", "review")
    assert "review" not in client.get_model_version(NAME, "1").tags


def test_make_ui_shows_what_was_published_straight_to_postgresql_and_s3(tmp_path):
    with postgresql_and_s3(tmp_path) as variables, mock.patch.dict(os.environ, variables):
        study = PublishedStudy(tmp_path)
        make_finished_study(study.data)
        run_id = study.publish()[0].run_id
        with started(mlflow_server_of_make_ui(), tmp_path) as address:
            assert MlflowClient(address).get_model_version(NAME, "1").tags["model"] == "vit"
            with urllib.request.urlopen(f"{address}/get-artifact?path=scores/scores.csv&run_uuid={run_id}") as answer:
                assert answer.read() == (study.data / "scores/busi/vit/scores.csv").read_bytes()
