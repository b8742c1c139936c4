"""From a version to everything behind it, and from a stray heatmap file to its version."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline import lineage
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.report.overlays import draw_cell_overlays
from tests.cells import give_checkpoint, published_study

pytestmark = pytest.mark.slow

CELL = "busi/vit"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Version 1 has its pictures drawn; version 2 is of another checkpoint."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        draw_cell_overlays(*(study.data / name for name in ("prepared/busi", f"models/{CELL}", f"heatmaps/{CELL}")), 2)
        study.publish()
        shutil.copytree(study.data / f"heatmaps/{CELL}", study.folder / "stray")
        give_checkpoint(study.data, "busi", "vit", seed=1)
        study.publish()
        yield study


def found(study, version="1"):
    return lineage.lineage_of(study.client, "busi", version, study.promotion_log)


def test_a_version_leads_to_data_split_commit_params_curves_heatmaps_scores_and_report(study):
    one = found(study)
    version = study.client.get_model_version("busi-classifier", "1")
    assert one.checkpoint_sha256 == version.tags["checkpoint_sha256"]
    assert (one.data_sha256, one.git_commit) == ("d" * 64, "c0ffee")
    assert one.test_split_sha256 == version.tags["test_split_sha256"]
    assert one.params["finetune.augmentation.hue"] == "0.02"
    assert one.training["train_loss"] == 0.3
    assert one.files["heatmaps/attributions.npz"] == sha256_of(study.folder / "stray/attributions.npz")
    assert {"scores/scores.csv", "scores/localisation.csv", "models/history.csv"} <= set(one.files)
    report = study.client.get_run(one.report_run.rpartition("/")[2])
    assert report.data.params["checkpoint/busi-vit"] == one.checkpoint_sha256


def test_edited_and_deleted_tags_change_nothing_of_what_is_told(study):
    before = found(study)
    study.client.set_model_version_tag("busi-classifier", "1", "data_hash", "a lie")
    study.client.delete_model_version_tag("busi-classifier", "1", "arch")
    assert found(study) == before


def test_an_altered_file_of_the_run_is_named(study):
    run = study.client.get_run(found(study).run_id)
    receipt = Path(run.info.artifact_uri.removeprefix("file://")) / "models/receipt.json"
    text = receipt.read_text()
    receipt.write_text(text.replace('"epochs_run": 5', '"epochs_run": 6'))
    with pytest.raises(StudyError, match=r"files missing or altered \(models/receipt.json\)"):
        found(study)
    receipt.write_text(text)


def test_each_version_keeps_its_own_evidence(study):
    one, two = found(study, "1"), found(study, "2")
    assert one.checkpoint_sha256 != two.checkpoint_sha256
    assert one.run_id != two.run_id
    assert one.report_run != two.report_run


def test_an_alias_is_as_good_as_a_number(study):
    study.client.set_registered_model_alias("busi-classifier", "candidate", "2")
    assert found(study, "candidate") == found(study, "2")
    assert found(study, "2").aliases == ("candidate",)


def test_an_unknown_version_is_refused_and_the_known_are_named(study):
    with pytest.raises(StudyError, match="no version or alias champion; versions: 1, 2"):
        found(study, "champion")


@pytest.mark.parametrize("pattern", ["attributions.npz", "overlays/*_gradcam_predicted.png", "overlays/*.jpg"])
def test_a_copied_heatmap_leads_to_the_version_it_explains(study, tmp_path, pattern):
    copy = shutil.copy(next((study.folder / "stray").glob(pattern)), tmp_path)
    heatmap = lineage.lineage_in(Path(copy))
    assert lineage.version_of_heatmap(study.client, heatmap).version == 1
    assert (heatmap.dataset, heatmap.model) == ("busi", "vit")


def test_an_overlay_names_its_image_method_and_target(study):
    path = next((study.folder / "stray/overlays").glob("*_gradient_rollout_predicted.png"))
    heatmap = lineage.lineage_in(path)
    row = int(path.name.split("_")[0])
    with np.load(study.folder / "stray/attributions.npz") as arrays:
        predicted = int(arrays["targets_predicted"][arrays["rows_predicted"] == row][0])
    assert heatmap.method == "gradient_rollout"
    assert heatmap.target == ("normal", "benign", "malignant")[predicted]
    assert heatmap.file


def test_a_file_that_says_nothing_of_its_model_is_named(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "plain.png")
    np.savez(tmp_path / "whole.npz", lineage=np.zeros(999))
    (tmp_path / "broken.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:600])
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", maps=np.zeros(3))
    for name in ("plain.png", "broken.npz", "empty.npz", "other.npz"):
        with pytest.raises(StudyError, match=f"{name}: says nothing of its model"):
            lineage.lineage_in(tmp_path / name)
    with pytest.raises(StudyError, match=r"none\.png: no such file"):
        lineage.lineage_in(tmp_path / "none.png")


def test_a_heatmap_of_an_unregistered_checkpoint_says_what_to_do(study):
    heatmap = lineage.lineage_in(study.folder / "stray/attributions.npz")
    stranger = heatmap.model_copy(update={"checkpoint_sha256": "f" * 64})
    with pytest.raises(StudyError, match=r"no version has checkpoint ffffffffffff.*dvc checkout"):
        lineage.version_of_heatmap(study.client, stranger)


def test_the_command_prints_what_is_behind_a_heatmap(study):
    from tests.study import ROOT

    def run(*arguments):
        command = [os.sys.executable, "-m", "flows.lineage", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    text = run("--file", str(study.folder / "stray/attributions.npz"))
    assert "busi-classifier version 1" in text
    assert "scores/scores.csv" in text
    assert json.loads(run("--dataset", "busi", "--version", "1", "--json"))["version"] == "1"
