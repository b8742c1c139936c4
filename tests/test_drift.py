"""What somebody changed in MLflow is found, named, told apart from a user's own additions, and set right."""

import shutil
from pathlib import Path

import pytest

from pipeline import registry
from tests.cells import published_study

pytestmark = pytest.mark.slow

NAME = "busi-classifier"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Published once; each test finds it in step, and leaves it so."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


@pytest.fixture(autouse=True)
def in_step(study):
    assert study.check() == []
    yield
    assert study.check() == []


def version_of(study):
    return registry.versions_of(study.client, NAME)[-1]


def artifacts_of(study):
    """The folder of the cell's run."""
    run_id = version_of(study).tags["evidence_run"]
    return Path(study.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))


def model_folder(study):
    return study.model_folder(str(version_of(study).version))


def problems(study):
    return [f"{drift.subject}: {drift.problem}" for drift in study.check()]


def test_an_edited_tag_of_a_version_is_named_and_set_back(study):
    number, wanted = version_of(study).version, version_of(study).tags["gradcam/insertion_auc"]
    study.client.set_model_version_tag(NAME, number, "gradcam/insertion_auc", "0.9999")
    study.client.set_model_version_tag(NAME, number, "reviewed", "yes")
    assert problems(study) == [f"busi-vit: version {number}: tags edited: gradcam/insertion_auc"]
    assert study.publish()[0].repaired == (f"version {number}: tags edited: gradcam/insertion_auc",)
    assert version_of(study).tags["gradcam/insertion_auc"] == wanted
    assert version_of(study).tags["reviewed"] == "yes"


def test_checking_changes_nothing(study):
    number = version_of(study).version
    study.client.update_model_version(NAME, number, "the best model ever")
    for _ in range(2):
        assert problems(study) == [f"busi-vit: version {number}: description edited"]
    assert version_of(study).description == "the best model ever"
    study.publish()


def test_a_version_whose_very_identity_was_edited_is_found_by_its_model(study):
    number = version_of(study).version
    study.client.set_model_version_tag(NAME, number, "checkpoint_sha256", "f" * 64)
    assert problems(study) == [f"busi-vit: version {number}: tags edited: checkpoint_sha256"]
    assert study.publish()[0].version == str(number)
    assert len(registry.versions_of(study.client, NAME)) == 1


def test_a_deleted_version_is_registered_again_on_the_same_model(study):
    source = version_of(study).source
    study.client.delete_model_version(NAME, version_of(study).version)
    assert problems(study) == ["busi-vit: version: deleted"]
    assert study.publish()[0].created
    assert version_of(study).source == source


def test_a_deleted_registered_model_comes_back_with_its_words(study):
    before = study.client.get_registered_model(NAME)
    study.client.delete_registered_model(NAME)
    assert problems(study) == ["busi-vit: version: deleted", "busi-vit: busi-classifier: edited: all"]
    study.publish()
    after = study.client.get_registered_model(NAME)
    assert (after.description, after.tags) == (before.description, before.tags)


def test_a_deleted_run_is_written_anew(study):
    study.client.delete_run(version_of(study).tags["evidence_run"])
    assert problems(study) == ["busi-vit: run: deleted"]
    published = study.publish()[0]
    assert version_of(study).tags["evidence_run"] == published.run_id


def test_a_metric_that_was_added_to_is_cured_by_a_new_run(study):
    run_id = version_of(study).tags["evidence_run"]
    study.client.log_metric(run_id, "gradcam/insertion_auc", 0.9999)
    assert problems(study) == ["busi-vit: run: params or metrics edited: gradcam/insertion_auc"]
    assert study.publish()[0].run_id != run_id


@pytest.mark.parametrize("name", ["heatmaps/attributions.npz", "scores/scores.csv", "manifest.json"])
def test_an_altered_file_of_a_run_is_uploaded_again(study, name):
    path, run_id = artifacts_of(study) / name, version_of(study).tags["evidence_run"]
    with path.open("ab") as file:
        file.write(b"!")
    assert problems(study) == [f"busi-vit: run: files altered: {name}"]
    assert study.publish()[0].run_id == run_id


def test_missing_files_of_a_run_are_uploaded_again_and_many_are_counted(study):
    shutil.rmtree(artifacts_of(study) / "scores")
    [problem] = problems(study)
    assert problem.startswith("busi-vit: run: files missing: scores/curves.npz, scores/curves_mean.csv, scores/")
    assert problem.endswith("and 6 more")
    study.publish()


@pytest.mark.parametrize("name", ["artifacts/model.safetensors", "MLmodel", "manifest.json"])
def test_an_altered_file_of_a_model_is_saved_again_under_the_same_version(study, name):
    number = version_of(study).version
    with (model_folder(study) / name).open("ab") as file:
        file.write(b"!")
    assert problems(study) == [f"busi-vit: logged model: files altered: {name}"]
    assert study.publish()[0].version == str(number)


def test_an_altered_page_of_the_report_is_published_anew(study):
    experiment = study.client.get_experiment_by_name("study")
    [run] = study.client.search_runs([experiment.experiment_id])
    (Path(run.info.artifact_uri.removeprefix("file://")) / "report.html").write_text("<p>all is well</p>")
    assert problems(study) == ["study: run: files missing or altered: report.html"]
    study.publish()
    [anew] = study.client.search_runs([experiment.experiment_id])
    assert anew.info.run_id != run.info.run_id


def test_other_scores_than_the_files_are_told_before_they_are_published(study):
    summary = study.data / "scores/busi/vit/summary.json"
    text = summary.read_text()
    summary.write_text(text.replace('"pointing_tolerance_px": 0', '"pointing_tolerance_px": 3'))
    assert problems(study) == ["busi-vit: run: of other scores or params"]
    summary.write_text(text)
