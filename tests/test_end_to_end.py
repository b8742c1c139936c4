"""The study end to end: `flows.study` on tiny phantoms, then everything a user may do with what it leaves."""

import json
import shutil

import pandas as pd
import pytest

from pipeline.report.cells import load_cell
from tests.ports import free_port
from tests.study import Alone, Study, make_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> tuple[Study, Alone]:
    """The tiny study, run once with a Prefect server of its own and a local MLflow store, and without a network."""
    study = make_study(tmp_path_factory.mktemp("machine") / "checkout")
    return study, study.run_alone("flows.study")


@pytest.fixture(scope="module")
def study(first_run) -> Study:
    return first_run[0]


@pytest.fixture
def mlflow_client(study):
    return _client(study)


def test_it_ends_with_a_table_and_where_to_look(first_run):
    console = first_run[1].stdout
    assert "busi" in console
    assert "gradient_rollout" in console
    assert "data/report/index.html" in console


def test_no_program_sent_a_packet_that_would_have_left_the_machine(first_run):
    require_alone(first_run[1])
    assert first_run[1].packets == 0


def test_the_servers_listen_on_loopback_and_send_nothing_elsewhere(study):
    served = study.run_alone("listening", str(free_port()))
    assert set(json.loads(served.stdout)) == {"127.0.0.1"}
    require_alone(served)
    assert served.packets == 0


def test_the_page_leads_to_the_registered_versions_and_tells_the_time_taken(study):
    page = (study.folder / "data/report/index.html").read_text(encoding="utf-8")
    assert "/#/models/busi-classifier/versions/1" in page
    assert "Published at commit" in page
    assert '<th scope="row">finetune busi-deit</th>' in page


def test_every_cell_has_a_model_heatmaps_and_scores(study):
    for model in ("deit", "swin"):
        scores = pd.read_csv(study.folder / f"data/scores/busi/{model}/scores.csv")
        assert {"gradcam", "gradient_rollout", "random", "centre", "edge"} <= set(scores.method)
        assert scores.auc.between(0, 1).all()
        assert list((study.folder / f"data/heatmaps/busi/{model}/overlays").glob("*.png"))
        assert (study.folder / f"data/models/busi/{model}/model.safetensors").stat().st_size > 1000


def test_a_model_pretrained_within_the_study_is_fine_tuned_from_it(study, mlflow_client):
    weights = "data/pretrained/deit.safetensors"
    receipt = json.loads((study.folder / weights).with_suffix(".json").read_text())
    cells = {
        model: json.loads((study.folder / f"data/models/busi/{model}/receipt.json").read_text())
        for model in ("deit", "swin")
    }
    assert (cells["deit"]["weights"], cells["swin"]["weights"]) == (weights, "none")
    (run,) = mlflow_client.search_runs([mlflow_client.get_experiment_by_name("pretraining").experiment_id])
    assert run.info.run_name == "pretrain-deit"
    assert run.data.tags["checkpoint_sha256"] == receipt["checkpoint_sha256"]
    assert run.data.metrics["busi/knn_accuracy"] == receipt["probes"]["busi"]["knn_accuracy"]
    assert len(mlflow_client.get_metric_history(run.info.run_id, "train_loss")) == 2


def test_each_version_carries_its_scores(study, mlflow_client):
    versions = mlflow_client.search_model_versions("name='busi-classifier'")
    assert sorted(version.tags["model"] for version in versions) == ["deit", "swin"]
    for version in versions:
        summary = json.loads((study.folder / f"data/scores/busi/{version.tags['model']}/summary.json").read_text())
        expected = summary["metrics"]["gradcam"]["insertion_auc"]
        assert float(version.tags["gradcam/insertion_auc"]) == pytest.approx(expected, abs=1e-4)
        logged = mlflow_client.get_logged_model(version.source.split("/")[-1])
        assert {metric.key: metric.value for metric in logged.metrics}["gradcam/insertion_auc"] == pytest.approx(
            expected
        )


def test_prefect_kept_the_history_of_each_stage(study):
    import sqlite3

    with sqlite3.connect(study.folder / ".prefect/prefect.db") as history:
        runs = dict(history.execute("select name, state_name from flow_run").fetchall())
    assert runs["finetune busi-deit"] == runs["score busi-swin"] == runs["publish"] == "Completed"
    assert runs["pretrain deit"] == "Completed"


def test_metrics_and_plots_are_shown_by_dvc(study):
    metrics = study.run("dvc", "metrics", "show", "--json")
    assert "insertion_auc" in metrics.stdout
    assert "balanced_accuracy" in metrics.stdout
    assert metrics.stderr == ""
    study.run("dvc", "plots", "show")
    assert (study.folder / "dvc_plots/index.html").exists()


def test_a_second_repro_runs_publish_only_and_writes_nothing_twice(study, mlflow_client):
    before = _store(mlflow_client)
    assert study.repro() == {"publish"}
    assert _store(mlflow_client) == before


def test_a_check_ends_with_1_where_somebody_edited_the_store_and_publish_mends_it(study, mlflow_client):
    assert "agree" in study.run("flows.publish", "--check").stdout
    mlflow_client.set_model_version_tag("busi-classifier", "1", "test/accuracy", "1.0000")
    found = study.run("flows.publish", "--check", check=False)
    assert (found.returncode, "version 1: tags edited: test/accuracy" in found.stdout) == (1, True)
    study.run("flows.publish")
    assert study.run("flows.publish", "--check").returncode == 0


def test_a_deleted_store_is_rebuilt_by_publish_with_its_champion(study, mlflow_client):
    study.edit(lambda tree: tree["promotion"].update(conditions=[{"metric": "test/accuracy", "at_least": 0.0}]))
    study.run("flows.promote", "--dataset", "busi", "--by", "tests")
    before, champion = _store(mlflow_client), _champion(mlflow_client)
    for path in study.folder.glob("mlflow.db*"):
        path.unlink()
    shutil.rmtree(study.folder / "mlartifacts")
    study.run("flows.publish")
    assert (_store(_client(study)), _champion(_client(study))) == (before, champion)
    assert "champion" in study.run("flows.lineage", "--dataset", "busi").stdout


def test_a_learning_rate_concerns_its_models_cells_only(study):
    study.edit(lambda tree: tree["models"]["deit"].update(learning_rate=0.002))
    assert {name for name in study.repro() if "@" in name} == {
        "finetune@busi-deit",
        "explain@busi-deit",
        "score@busi-deit",
    }


def test_the_number_of_steps_concerns_scoring_only(study, mlflow_client):
    versions = len(mlflow_client.search_model_versions())
    study.edit(lambda tree: tree["score"].update(steps=5))
    assert study.repro() == {"score@busi-deit", "score@busi-swin", "report", "publish"}
    assert len(mlflow_client.search_model_versions()) == versions


def test_a_further_seed_repeats_a_cell_from_fine_tuning_on_and_registers_nothing(study, mlflow_client):
    versions = len(mlflow_client.search_model_versions())
    study.edit(lambda tree: tree["study"].update(models=["swin"], seeds=[1]))  # one model tells as much as two
    repeats = {f"{stage}_seed@busi-swin-1" for stage in ("finetune", "explain", "score")}
    assert study.repro() == repeats | {"report", "publish"}
    assert len(mlflow_client.search_model_versions()) == versions
    own, again = (load_cell(study.folder / "data", "busi", "swin", seed) for seed in (None, 1))
    assert (own.receipt.seed, again.receipt.seed) == (0, 1)
    assert own.receipt.data_sha256 == again.receipt.data_sha256
    assert own.receipt.checkpoint_sha256 != again.receipt.checkpoint_sha256
    assert own.heatmaps.rows["predicted"].tolist() == again.heatmaps.rows["predicted"].tolist()
    random_maps = [cell.heatmaps.attributions["random/predicted"] for cell in (own, again)]
    assert (random_maps[0] == random_maps[1]).all()


def test_the_data_travel_through_a_remote(study, tmp_path):
    study.run("dvc", "remote", "add", "--local", "shelf", str(tmp_path / "remote"))
    study.run("dvc", "push", "-r", "shelf", "preprocess@busi")
    prepared = study.folder / "data/prepared/busi"
    content = (prepared / "images.npy").read_bytes()
    for folder in (prepared, study.folder / ".dvc/cache/files"):
        shutil.rmtree(folder)
    study.run("dvc", "pull", "-r", "shelf", "preprocess@busi")
    assert (prepared / "images.npy").read_bytes() == content


def test_nothing_above_tried_to_leave_the_machine_to_listen_beyond_it_or_to_unpickle(study):
    """Stands last. The guard is in every Python process of every command; `test_quiet.py` shows that it sees."""
    assert study.attempts == []


def require_alone(run: Alone) -> None:
    if run.refused:
        pytest.skip(f"no network of its own here: {run.refused}")


def _client(study: Study):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{study.folder}/mlflow.db")


def _champion(client) -> str:
    return client.get_model_version_by_alias("busi-classifier", "champion").tags["checkpoint_sha256"]


def _store(client) -> dict:
    """What the store holds, without ids and times."""
    versions = client.search_model_versions()
    experiments = client.search_experiments()
    runs = client.search_runs([experiment.experiment_id for experiment in experiments])
    tags = [{key: value for key, value in version.tags.items() if key != "evidence_run"} for version in versions]
    return {
        "versions": sorted((v.name, v.version, sorted(told.items())) for v, told in zip(versions, tags, strict=True)),
        "runs": sorted((run.info.run_name, sorted(run.data.metrics.items())) for run in runs),
    }
