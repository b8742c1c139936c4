"""A study travels through a bucket: pushed from one machine, pulled on another, with keys from the environment only."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

import pytest

from tests.machines import (
    CHECKPOINT,
    STATUS_WHEN_DONE,
    add_remote,
    clone_of,
    commit,
    contents,
    damaged,
    first_machine,
    object_name,
    status,
)
from tests.services.stores import BUCKET, bucket
from tests.study import Study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables of a bucket, whose keys are in the environment meanwhile."""
    pytest.importorskip("dvc_s3", reason="needs dvc-s3, of the extra `services`: make test-services")
    with bucket(tmp_path_factory.mktemp("s3")) as variables, mock.patch.dict(os.environ, variables):
        yield variables


@pytest.fixture(scope="module")
def first(server: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A finished study in the bucket, its remote set up as docs/data.md says."""
    study = first_machine(tmp_path_factory.mktemp("first"))
    add_remote(study, f"s3://{BUCKET}/rings")
    study.run("dvc", "remote", "modify", "shelf", "endpointurl", server["MLFLOW_S3_ENDPOINT_URL"])
    study.run("dvc", "push")
    commit(study)
    return study


@pytest.fixture
def second(first: Study, tmp_path: Path) -> Study:
    return clone_of(first, tmp_path / "second")


def test_a_second_machine_pulls_and_has_nothing_to_run_but_publish(first: Study, second: Study) -> None:
    assert second.repro("--pull") == {"publish"}
    assert contents(second) == contents(first)


def test_pull_alone_brings_everything(first: Study, second: Study) -> None:
    second.run("dvc", "pull")
    assert contents(second) == contents(first)
    assert status(second) == STATUS_WHEN_DONE


def test_without_keys_nothing_comes_and_the_reason_is_told(second: Study, tmp_path: Path) -> None:
    keys = [name for name in os.environ if name.startswith("AWS_")]
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path)}
    with mock.patch.dict(os.environ, nowhere):
        for name in keys:
            del os.environ[name]
        refused = second.run("dvc", "pull", check=False)
    assert refused.returncode == 1
    assert "Unable to locate credentials" in refused.stderr
    assert not (second.folder / "data/models").exists()


def test_a_damaged_object_is_refused(first: Study, second: Study, server: Mapping[str, str]) -> None:
    import boto3

    store = boto3.client("s3", endpoint_url=server["MLFLOW_S3_ENDPOINT_URL"])
    content = (first.folder / CHECKPOINT).read_bytes()
    place = {"Bucket": BUCKET, "Key": f"rings/{object_name(content)}"}
    store.put_object(**place, Body=damaged(content))
    refused = second.run("dvc", "pull", check=False)
    store.put_object(**place, Body=content)
    assert (refused.returncode, CHECKPOINT in refused.stderr) == (1, True)
    expected = contents(first)
    del expected[CHECKPOINT]
    assert contents(second) == expected
