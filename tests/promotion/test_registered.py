"""Versions are read back from files that hold what was written; any other is named with the reason."""

import json
from contextlib import contextmanager

import pandas as pd
import pytest

from pipeline import registry, runs, tracking
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.promotion.registered import Registered, evidence_run, refuse_other_evidence, registered_versions
from pipeline.records import Manifest
from tests.cells import published_study

pytestmark = pytest.mark.slow

NAME = "busi-classifier"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


def version_of(study):
    return registry.versions_of(study.client, NAME)[0]


def run_of(study):
    return evidence_run(study.client, "busi", version_of(study))


def found(study):
    [version] = registered_versions(study.client, "busi")
    return version


@contextmanager
def run_folder(study):
    """The run's files as this machine's; what is changed in the block is changed back, manifest and hashes too."""
    run, version = run_of(study), version_of(study)
    with tracking.local_copy(study.client, run.info.artifact_uri) as folder:
        kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        try:
            yield folder
        finally:
            for path, content in kept.items():
                path.write_bytes(content)
            give_content_hash(study, run, version.tags[runs.CONTENT_HASH])


def give_content_hash(study, run, content_hash):
    study.client.set_tag(run.info.run_id, runs.CONTENT_HASH, content_hash)
    study.client.set_model_version_tag(NAME, "1", runs.CONTENT_HASH, content_hash)


def as_an_earlier_program_wrote_it(study, folder):
    """The run's manifest, and what names it, true to the files as they are now."""
    run, manifest = run_of(study), Manifest.read(folder)
    files = {name: sha256_of(folder / name) for name in manifest.files if (folder / name).exists()}
    manifest.model_copy(update={"files": files}).write(folder)
    give_content_hash(study, run, Manifest.read(folder).sha256)


def test_facts_are_those_of_the_files_and_of_the_run(study):
    version = found(study)
    assert isinstance(version, Registered)
    facts, tags = version.version, version_of(study).tags
    assert (facts.model, facts.checkpoint_sha256) == ("vit", tags["checkpoint_sha256"])
    assert (facts.evidence_sha256, facts.split_sha256) == (tags["content_hash"], tags["test_split_sha256"])
    assert facts.is_current


@pytest.mark.parametrize("edit", [lambda client, run: client.delete_tag(run, "model"),
                                  lambda client, run: client.set_tag(run, "model", "swin")])  # fmt: skip
def test_which_model_it_is_is_told_by_the_receipt_and_not_by_a_tag(study, edit):
    run = run_of(study).info.run_id
    edit(study.client, run)
    assert found(study).version.model == "vit"
    study.client.set_tag(run, "model", "vit")


def test_a_run_that_is_no_longer_current_is_told_so(study):
    study.client.set_tag(run_of(study).info.run_id, runs.CURRENT, "false")
    assert not found(study).version.is_current
    study.client.set_tag(run_of(study).info.run_id, runs.CURRENT, "true")


def without_column(path, name):
    pd.read_csv(path).drop(columns=name).to_csv(path, index=False)


def of_another_dataset(folder):
    path = folder / "models/receipt.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "pbc"}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: without_column(folder / "models/predictions.csv", "label"), "of an earlier form (KeyError: "),
        (lambda folder: without_column(folder / "scores/localisation.csv", "size"), "of an earlier form (KeyError: "),
        (lambda folder: (folder / "prepared/traits.csv").unlink(), "of an earlier form (FileNotFoundError: "),
        (lambda folder: (folder / "scores/summary.json").write_text("{}"), "not a valid Summary"),
        (of_another_dataset, "its files are of pbc"),
    ],
)
def test_what_an_earlier_program_published_is_named_with_the_reason(study, change, words):
    with run_folder(study) as folder:
        change(folder)
        as_an_earlier_program_wrote_it(study, folder)
        assert words in found(study).reason
    assert isinstance(found(study), Registered)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), r"missing or altered (manifest.json)"),
        (lambda folder: (folder / "scores/scores.csv").write_text("row\n"), "missing or altered (scores/scores.csv)"),
    ],
)
def test_files_that_do_not_hold_what_was_written_are_named(study, change, words):
    with run_folder(study) as folder:
        change(folder)
        assert words in found(study).reason


def test_a_version_without_the_hash_of_its_evidence_is_named_with_the_reason(study):
    content_hash = version_of(study).tags[runs.CONTENT_HASH]
    study.client.delete_model_version_tag(NAME, "1", runs.CONTENT_HASH)
    assert "it has no tag content_hash: published by an earlier program" in found(study).reason
    study.client.set_model_version_tag(NAME, "1", runs.CONTENT_HASH, content_hash)


def test_evidence_that_is_not_what_was_judged_is_refused(study):
    version = version_of(study)
    judged = version.tags[runs.CONTENT_HASH]
    refuse_other_evidence(study.client, "busi", version, judged)
    with pytest.raises(StudyError, match="are others than those that were judged"):
        refuse_other_evidence(study.client, "busi", version, "0" * 64)
    with run_folder(study) as folder:
        (folder / "scores/scores.csv").write_text("row\n")
        with pytest.raises(StudyError, match="files of its run are missing or altered"):
            refuse_other_evidence(study.client, "busi", version, judged)
