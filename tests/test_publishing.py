"""A finished cell in MLflow: complete, written once, rebuilt from nothing, and never from files that disagree."""

import json
import os
import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
import yaml

from pipeline import publishing, runs
from pipeline.data.prepared import to_tensor
from pipeline.errors import StudyError
from pipeline.explain import explain
from pipeline.models.checkpoint import load_checkpoint
from pipeline.publishing import CellFiles, Context, cell_params, wanted_cell
from pipeline.publishing.files import checked_cell
from pipeline.publishing.reports import report_run
from pipeline.records import Audit, Explanation, PretrainingReceipt, Summary
from tests.cells import change_record, give_checkpoint, make_finished_study, published_study, tiny_params
from tests.serving.worlds import in_base64

pytestmark = pytest.mark.slow

NAME = "busi-classifier"
PRETRAINED = Path(__file__).parents[1] / "data/pretrained"
CONTEXT = Context("c0ffee", Path("dvc.lock"))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Published once; tests leave it changed, and each begins by publishing."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


def live_runs(study, experiment="busi"):
    found = study.client.get_experiment_by_name(experiment)
    return study.client.search_runs([found.experiment_id])


def versions(study):
    return sorted(study.client.search_model_versions(f"name = '{NAME}'"), key=lambda version: int(version.version))


def listed(study, cell, folder):
    return study.client.list_artifacts(cell.run_id, folder)


def rescore(study, insertion_auc):
    scored = study.data / "scores/busi/vit"
    metrics = Summary.read(scored).metrics
    changed = {**metrics, "gradcam": {**metrics["gradcam"], "insertion_auc": insertion_auc}}
    change_record(scored, Summary, metrics=changed)


def contents(study):
    """What the store holds, without ids and times."""
    live = [run for name in ("busi", "study") for run in live_runs(study, name)]
    return (
        [(version.version, version.tags | {"evidence_run": "an id"}) for version in versions(study)],
        sorted((run.info.run_name, run.data.params, run.data.metrics, run.data.tags["content_hash"]) for run in live),
    )


def test_a_cells_run_holds_params_metrics_data_and_files(study):
    cell = study.publish()[0]
    run = study.client.get_run(cell.run_id)
    summary = Summary.read(study.data / "scores/busi/vit")
    assert run.info.run_name == "busi-vit"
    assert run.data.params["finetune.augmentation.hue"] == "0.02"
    assert run.data.metrics["gradcam/insertion_auc"] == summary.metrics["gradcam"]["insertion_auc"]
    assert {"test/accuracy", "test/recall/benign", "train_loss", "misclassified/gradcam/true/insertion_auc"} <= set(
        run.data.metrics
    )
    assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert run.data.tags["package/torch"] == "2.13.0"
    assert run.inputs.dataset_inputs[0].dataset.digest == ("d" * 32)
    files = {file.path for name in ("prepared", "models", "heatmaps", "scores") for file in listed(study, cell, name)}
    assert {
        "prepared/audit.json", "prepared/index.csv", "models/receipt.json", "models/predictions.csv",
        "heatmaps/attributions.npz", "scores/scores.csv", "scores/localisation.csv", "scores/summary.json",
    } <= files  # fmt: skip
    assert [file.path for file in study.client.list_artifacts(cell.run_id, "figures")] == ["figures/busi_training.png"]


def test_a_version_carries_its_evidence(study):
    cell = study.publish()[0]
    version = study.client.get_model_version(NAME, cell.version)
    summary = Summary.read(study.data / "scores/busi/vit")
    assert version.tags["checkpoint_sha256"] == summary.checkpoint_sha256
    assert version.tags["data_hash"] == "d" * 64
    assert version.tags["gradcam/insertion_auc"] == f"{summary.metrics['gradcam']['insertion_auc']:.4f}"
    assert version.description.startswith("# vit on busi")
    assert "| Grad-CAM |" in version.description
    assert "## Model Examination" in version.description
    assert len(version.description) <= 5000  # what MLflow's stores hold
    assert f"runs/{cell.run_id}" in version.description
    logged = study.client.get_logged_model(version.source.rpartition("/")[2])
    values = {metric.key: metric.value for metric in logged.metrics if metric.run_id == cell.run_id}
    assert values["edge/deletion_auc"] == summary.metrics["edge"]["deletion_auc"]
    assert study.client.get_registered_model(NAME).tags["classes"] == "normal, benign, malignant"


def test_the_report_is_a_run_with_its_page_and_findings(study):
    run = study.client.get_run(study.publish()[-1].run_id)
    assert run.data.metrics == {"busi/vit/gradcam/insertion_auc": 0.5}
    assert run.data.tags["F1"] == "undecided"
    version = versions(study)[-1]
    assert run.data.params["checkpoint/busi-vit"] == version.tags["checkpoint_sha256"]
    assert [f"models:/{model.model_id}" for model in run.inputs.model_inputs] == [version.source]
    assert "report.html" in {file.path for file in study.client.list_artifacts(run.info.run_id)}


def test_publishing_twice_writes_once(study):
    study.publish()
    before = contents(study)
    again = study.publish()
    assert not any(published.created for published in again)
    assert contents(study) == before


def test_an_empty_store_is_filled_with_the_same(study, tmp_path, monkeypatch):
    study.publish()
    before = contents(study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert all(published.created for published in study.publish())
    assert contents(study) == before


def test_new_scores_replace_the_run_and_keep_the_version(study):
    first = study.publish()[0]
    rescore(study, 0.7125)
    second = study.publish()[0]
    assert second.created
    assert second.run_id != first.run_id
    assert second.version == first.version
    assert [run.info.run_id for run in live_runs(study)] == [second.run_id]
    assert study.client.get_model_version(NAME, first.version).tags["gradcam/insertion_auc"] == "0.7125"
    inputs = study.client.get_run(second.run_id).inputs.model_inputs
    assert f"models:/{inputs[0].model_id}" == versions(study)[0].source


def test_a_registered_model_explains_with_the_settings_that_its_heatmaps_were_made_with(study):
    first = study.publish()[0]
    settings = {"rollout_mode": "compat_vit_explain", "discard_ratio": 0.0}
    change_record(study.data / "heatmaps/busi/vit", Explanation, settings=settings)
    assert study.publish()[0].model_id == first.model_id
    images = np.load(study.data / "prepared/busi/images.npy")[:1]
    answer = mlflow.pyfunc.load_model(f"models:/{first.model_id}").predict(
        in_base64(images), params={"method": "gradient_rollout", "target": "benign", "return_heatmap": True}
    )
    classifier, description = load_checkpoint(study.data / "models/busi/vit/model.safetensors")
    asked = to_tensor(images), "gradient_rollout", [description.classes.index("benign")]
    own, usual = (explain(classifier, *asked, **options)["gradient_rollout"][0] for options in (settings, {}))
    np.testing.assert_array_equal(answer["attribution"][0], own.numpy())
    assert not np.array_equal(own, usual)


def test_a_changed_param_is_a_new_run_of_the_same_version(study):
    first = study.publish()[0]
    cell = CellFiles(study.data, "busi", "vit")
    params = {**cell_params(tiny_params(), "busi", "vit"), "score.batch_size": "7"}
    second = publishing.publish_cell(study.client, wanted_cell(cell, params, Context()))
    assert (second.created, second.version) == (True, first.version)
    assert study.client.get_run(second.run_id).data.params["score.batch_size"] == "7"


def test_a_cut_off_publication_is_cleared_away(study):
    kept = study.publish()[0]
    study.client.delete_tag(kept.run_id, runs.CONTENT_HASH)
    study.client.update_run(kept.run_id, "RUNNING")
    anew = study.publish()[0]
    assert anew.created
    assert anew.version == kept.version
    assert [run.info.run_id for run in live_runs(study)] == [anew.run_id]


def test_deleted_artifacts_are_written_again_under_the_same_version(study):
    before = study.publish()[0]
    shutil.rmtree(os.environ["MLFLOW_TRACKING_URI"].removeprefix("sqlite:///").replace("mlflow.db", "mlartifacts"))
    after = study.publish()[0]
    assert (after.run_id, after.version) == (before.run_id, before.version)
    assert any(problem.startswith("run: files missing: ") for problem in after.repaired)
    assert any(problem.startswith("logged model: files missing: ") for problem in after.repaired)
    model_id = study.client.get_model_version(NAME, after.version).source.rpartition("/")[2]
    assert "MLmodel" in {file.path for file in study.client.list_logged_model_artifacts(model_id)}


def test_a_new_checkpoint_is_a_new_version_and_the_old_run_stays(study, tmp_path):
    with published_study(tmp_path) as own:
        first = own.publish()[0]
        give_checkpoint(own.data, "busi", "vit", seed=1)
        second = own.publish()[0]
        assert (first.version, second.version) == ("1", "2")
        current = {run.info.run_id: run.data.tags["current"] for run in live_runs(own)}
        assert current == {first.run_id: "false", second.run_id: "true"}
        give_checkpoint(own.data, "busi", "vit", seed=0)
        back = own.publish()[0]
        assert (back.created, back.run_id, back.version) == (False, first.run_id, "1")
        current = {run.info.run_id: run.data.tags["current"] for run in live_runs(own)}
        assert current == {first.run_id: "true", second.run_id: "false"}


def shipped_copy(folder):
    """DINO's weights as they ship, with receipt and card, in a folder of the test's own."""
    for suffix in (".safetensors", ".json", ".md"):
        shutil.copy(PRETRAINED / f"dino{suffix}", folder)
    return folder / "dino.safetensors"


def test_a_pretraining_is_a_run_with_its_recipe_losses_probes_and_card(study, tmp_path):
    weights = shipped_copy(tmp_path)
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    run = study.client.get_run(publishing.publish_pretraining(weights, CONTEXT).run_id)
    assert run.info.run_name == "pretrain-dino"
    assert run.data.params["recipe.epochs"] == str(receipt.epochs)
    assert run.data.metrics["pbc/knn_accuracy"] == receipt.probes["pbc"]["knn_accuracy"]
    assert run.data.tags["checkpoint_sha256"] == receipt.checkpoint_sha256
    assert "Phantoms are not patients" in run.data.tags["mlflow.note.content"]
    losses = study.client.get_metric_history(run.info.run_id, "train_loss")
    assert [loss.value for loss in losses] == pytest.approx([epoch["train_loss"] for epoch in receipt.history])
    assert {file.path for file in study.client.list_artifacts(run.info.run_id)} == {
        "dino.json",
        "dino.md",
        "manifest.json",
    }


def test_a_pretraining_is_published_once(study, tmp_path):
    weights = shipped_copy(tmp_path)
    first = publishing.publish_pretraining(weights, CONTEXT)
    again = publishing.publish_pretraining(weights, CONTEXT)
    assert (again.run_id, again.created) == (first.run_id, False)


def test_pretrained_weights_of_another_receipt_are_refused(study, tmp_path):
    weights = shipped_copy(tmp_path)
    shutil.copy(PRETRAINED / "vit.safetensors", weights)
    with pytest.raises(StudyError, match=r"dino.safetensors: not the file of dino.json; `make pretrain`"):
        publishing.publish_pretraining(weights, CONTEXT)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    data = make_finished_study(tmp_path / "data")
    with (data / "models/busi/vit/model.safetensors").open("ab") as file:
        file.write(b"!")
    with pytest.raises(StudyError, match=r"model\.safetensors: not the file of its receipt.*finetune@busi-vit"):
        checked_cell(CellFiles(data, "busi", "vit"))


def test_a_cell_of_other_data_is_refused(tmp_path):
    data = make_finished_study(tmp_path / "data")
    change_record(data / "prepared/busi", Audit, data_sha256="e" * 64)
    with pytest.raises(StudyError, match="prepared/busi: not the data of busi-vit"):
        checked_cell(CellFiles(data, "busi", "vit"))


def test_the_hash_that_dvc_gives_the_data_is_read_from_its_lock(tmp_path):
    lock = {"stages": {"preprocess@busi": {"outs": [{"path": "data/prepared/busi", "md5": "abc.dir"}]}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert Context(None, tmp_path / "dvc.lock").dvc_md5s == {tmp_path / "data/prepared/busi": "abc.dir"}
    assert Context(None, tmp_path / "none.lock").dvc_md5s == {}


def test_params_of_a_cell_are_flat_and_leave_out_the_others():
    params = cell_params(tiny_params(), "busi", "swin")
    assert params["model.arch_options.depths"] == "2, 4"
    assert params["phantom.overlay_scale"] == "1.0"
    assert not any("second_batch" in key or "deit" in value for key, value in params.items())


def test_an_absent_report_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"metrics\.json: no such file; run `dvc repro report`"):
        report_run(tmp_path, {}, Context())


def test_a_null_metric_of_the_report_is_left_out(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps({"busi": {"a": None, "b": 1.0}}))
    (tmp_path / "findings.json").write_text("[]")
    assert report_run(tmp_path, {}, Context()).metrics == {"busi/b": 1.0}
