"""Runs written to a real store, read back through MLflow's own client, and found again by what they hold."""

import dataclasses
from pathlib import Path

import pytest

from pipeline import runs
from pipeline.files import sha256_of
from pipeline.records import Manifest
from pipeline.runs import DatasetRef, RunContent

pytestmark = pytest.mark.slow

DATASET = DatasetRef("busi", "d" * 32, "{}", '{"images": 4}', {"dvc_md5": "m"})


def content_of(seed, **tags):
    return RunContent("busi-vit", params={"seed": seed}, tags=tags, artifacts=[(Path(__file__), "code")])


def finished(client, experiment, content):
    run_id = runs.start_run(client, experiment, content)
    runs.finish_run(client, run_id, content)
    return run_id


def test_a_run_holds_its_content(client, experiment, tmp_path):
    (tmp_path / "scores.csv").write_text("auc\n")
    content = RunContent(
        "busi-vit", {"seed": "0"}, {"gradcam/insertion_auc": 0.4}, [("train_loss", 1, 0.9), ("train_loss", 2, 0.5)],
        {"arch": "tiny"}, [(tmp_path / "scores.csv", "tables")], DATASET,
    )  # fmt: skip
    run_id = runs.start_run(client, experiment, content)
    runs.log_metrics(client, run_id, content)
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
    run_id = runs.start_run(client, experiment, content)
    runs.log_metrics(client, run_id, content)
    assert len(client.get_metric_history(run_id, "loss")) == 1500
    assert len(client.get_run(run_id).data.params) == 150


def test_only_a_finished_run_with_its_hash_counts(client, experiment):
    content = content_of("1")
    cut_off = runs.start_run(client, experiment, content)
    client.set_tag(cut_off, runs.CONTENT_HASH, content.content_hash)  # MLflow would list it as RUNNING for ever
    found = runs.runs_of(client, experiment, "busi-vit")
    assert [run.info.run_id for run in found] == [cut_off]
    assert runs.run_holding(found, content.content_hash) is None
    run_id = finished(client, experiment, content)
    found = runs.runs_of(client, experiment, "busi-vit")
    assert runs.run_holding(found, content.content_hash).info.run_id == run_id
    assert runs.run_holding(found, content_of("2").content_hash) is None
    assert [run.info.run_id for run in runs.runs_with(client, experiment, content.content_hash)] == [run_id, cut_off]


def test_leftovers_and_replaced_runs_go_and_earlier_checkpoints_stay(client, experiment):
    earlier = finished(client, experiment, content_of("1", checkpoint="a"))
    finished(client, experiment, content_of("2", checkpoint="b"))
    runs.start_run(client, experiment, RunContent("busi-vit"))  # cut off
    now = finished(client, experiment, content_of("3", checkpoint="b"))
    runs.make_current(client, now, runs.runs_of(client, experiment, "busi-vit"), {"checkpoint": "b"})
    left = {run.info.run_id: run.data.tags["current"] for run in runs.runs_of(client, experiment, "busi-vit")}
    assert left == {earlier: "false", now: "true"}


def test_the_content_hash_is_that_of_the_manifest_among_the_artifacts(client, experiment, tmp_path):
    content = content_of("1")
    run_id = finished(client, experiment, content)
    kept = Path(client.download_artifacts(run_id, "manifest.json", str(tmp_path)))
    assert sha256_of(kept) == client.get_run(run_id).data.tags["content_hash"]
    assert Manifest.read(tmp_path).files == {"code/test_runs.py": sha256_of(Path(__file__))}


@pytest.mark.parametrize("change", [{"params": {"seed": "2"}}, {"subject": "busi-dino"}, {"artifacts": []}])
def test_other_content_has_another_hash(change):
    assert dataclasses.replace(content_of("1"), **change).content_hash != content_of("1").content_hash


def test_edited_tags_and_values_are_named_and_a_users_own_are_not(client, experiment):
    content = dataclasses.replace(content_of("1", arch="tiny"), metrics={"accuracy": 0.5}, history=[("loss", 1, 0.3)])
    run_id = finished(client, experiment, content)
    runs.log_metrics(client, run_id, content)
    run = client.get_run(run_id)
    assert (runs.edited_tags(run, content), runs.edited_values(run, content)) == ([], [])
    client.set_tag(run_id, "arch", "huge")
    client.set_tag(run_id, "reviewed", "yes")
    client.log_metric(run_id, "accuracy", 0.99)
    client.log_metric(run_id, "loss", 0.1, step=2)
    run = client.get_run(run_id)
    assert (runs.edited_tags(run, content), runs.edited_values(run, content)) == (["arch"], ["loss", "accuracy"])
