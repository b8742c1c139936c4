"""On a Dask cluster of separate processes: fine-tuning too, and the work of a cluster whose scheduler is lost."""

import pytest

from tests.clusters import STAGES, dask_cluster, make_project, wait_until

pytestmark = pytest.mark.slow

FINETUNE = """
from flows.command import run_main
from flows.finetune import finetune

run_main(lambda: finetune("busi", "swin"))
"""


@pytest.fixture
def cluster(tmp_path):
    with dask_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
def project(cluster, tmp_path):
    return make_project(tmp_path / "project", {"kind": "dask", "address": cluster.address})


@pytest.fixture
def here(tmp_path):
    return make_project(tmp_path / "here", {"kind": "local", "address": "none"})


def test_a_model_that_a_worker_has_fine_tuned_is_the_one_that_is_fine_tuned_here(project, here, prefect_api):
    assert "epoch 2/2" in here.run("-c", FINETUNE).stderr
    there = project.run("-c", FINETUNE, PREFECT_API_URL=prefect_api)
    assert there.returncode == 0, there.stderr
    assert "epoch 2/2" not in there.stderr  # that is told where it happens
    assert project.hashes() == here.hashes()


def test_what_a_lost_cluster_was_to_make_is_made_here(project, here, cluster, prefect_api):
    assert here.run("-c", STAGES).returncode == 0
    head = project.start("-c", STAGES, PREFECT_API_URL=prefect_api)
    wait_until(lambda: any(name.startswith("curves") for name in project.shard_files("score")), head)
    cluster.scheduler.kill()
    told = head.communicate()[0]
    assert head.returncode == 0, told
    assert "they are made here" in told
    assert project.hashes() == here.hashes()
