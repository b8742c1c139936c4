"""Explaining and scoring by a Dask cluster of separate processes: the same files, whatever becomes of a worker."""

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.engine import CONNECTED, engine, spread
from pipeline.errors import StudyError, UnreachableError
from pipeline.params import RunnerParams, load_params
from pipeline.shards import one_by_one
from tests.clusters import STAGES, DaskCluster, Project, busiest, dask_cluster, make_project, wait_until
from tests.ports import free_port
from tests.study import ROOT

REFUSED = """
from pathlib import Path

from flows.command import run_main
from flows.runner import Step, stage
from pipeline.data.prepared import load_prepared

@stage("refused", heavy=True)
def refused():
    Step(load_prepared, heavy=True)(Path("data/nowhere"))

run_main(refused)
"""
BROKEN = REFUSED.replace('Step(load_prepared, heavy=True)(Path("data/nowhere"))', "Step(len, heavy=True)(5)")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def project(cluster: DaskCluster, tmp_path: Path) -> Project:
    return make_project(tmp_path / "project", {"kind": "dask", "address": cluster.address})


@pytest.mark.slow
def test_what_a_worker_refuses_is_told_in_one_line(project: Project, cluster: DaskCluster, prefect_api: str):
    refused = project.run("-c", REFUSED, PREFECT_API_URL=prefect_api)
    assert refused.stderr.splitlines()[-1] == "error: data/nowhere/set.json: no such file; run `dvc repro` to make it"
    assert refused.returncode == 2
    assert "data/nowhere" in cluster.log


@pytest.mark.slow
def test_a_step_that_fails_on_a_worker_fails_here_with_its_reason_and_is_not_made_again(
    project: Project, prefect_api: str
):
    broken = project.run("-c", BROKEN, PREFECT_API_URL=prefect_api)
    assert broken.returncode == 1
    assert re.search(r"StepError: len failed on \S+: TypeError: object of type 'int' has no len", broken.stderr)
    assert "lost" not in broken.stderr


@pytest.mark.slow
def test_a_killed_worker_costs_its_shard_only_and_the_files_are_those_of_one_process(
    project: Project, cluster: DaskCluster, prefect_api: str, tmp_path: Path
):
    here = make_project(tmp_path / "here", {"kind": "local", "address": "none"})
    assert here.run("-c", STAGES).returncode == 0

    head = project.start("-c", STAGES, PREFECT_API_URL=prefect_api)
    wait_until(lambda: any(name.startswith("curves") for name in project.shard_files("score")), head)
    finished = project.shard_files("score")
    os.kill(busiest(cluster.workers).pid, signal.SIGKILL)
    made_again = set()
    while head.poll() is None:
        now = project.shard_files("score")
        made_again |= {name for name in finished.keys() & now if now[name] != finished[name]}
    told = head.communicate()[0]
    assert head.returncode == 0, told
    assert "lost" not in told
    assert not made_again
    assert not project.shard_files("score")
    assert project.hashes() == here.hashes()


def test_a_scheduler_that_does_not_answer_is_named_with_the_remedy():
    address = f"tcp://127.0.0.1:{free_port()}"
    params = load_params(ROOT / "params.yaml").model_copy(update={"runner": RunnerParams(kind="dask", address=address)})
    with pytest.raises(UnreachableError, match=rf"{address} does not answer .*runner\.kind: local"), engine.up(params):
        raise AssertionError("it went on")


@pytest.mark.slow
def test_a_cluster_without_workers_is_waited_for_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with dask_cluster(tmp_path, workers=0) as empty:
        runner = RunnerParams(kind="dask", address=empty.address)
        params = load_params(ROOT / "params.yaml").model_copy(update={"runner": runner})
        with CONNECTED["dask"](params):
            assert f"runner.address: {empty.address} has no worker yet; waiting for one" in caplog.messages


def test_an_engine_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("flows.engine.find_spec", lambda name: None)
    params = load_params(ROOT / "params.yaml").model_copy(
        update={"runner": RunnerParams(kind="ray", address="ray://a:1")}
    )
    with (
        pytest.raises(StudyError, match=r"runner\.kind: ray: .* `pip install --editable '\.\[ray\]'`"),
        engine.up(params),
    ):
        raise AssertionError("it went on")


def test_without_a_cluster_shards_are_made_here():
    with engine.up(load_params(ROOT / "params.yaml")):
        assert not engine.is_up
        assert spread() is one_by_one
