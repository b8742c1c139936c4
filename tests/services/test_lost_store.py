"""An MLflow server that is gone for a while costs publishing a pause; one that is gone for good, one line."""

import os
import threading
import time
from contextlib import contextmanager
from unittest import mock

import psutil
import pytest

from flows import servers
from flows.processes import noted
from flows.runner import Step
from pipeline.errors import UnreachableError
from pipeline.publishing import publish_study
from tests.cells import PublishedStudy, make_finished_study
from tests.ports import free_port
from tests.services.servers import mlflow_server

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Not up yet; it comes back to the same port and the same store."""
    monkeypatch.chdir(tmp_path)
    return mlflow_server(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))


@pytest.fixture
def study(tmp_path, server):
    port = free_port()
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}):
        make_finished_study(tmp_path / "data")
        servers.start(server, port)
        yield PublishedStudy(tmp_path)
        servers.stop(server)


def kill_after_the_first_run(study):
    """Kills the server, and all its processes, when it has begun to take what is published."""
    server = psutil.Process(noted("mlflow").pid)
    family = [*server.children(recursive=True), server]
    client = study.client
    while not client.search_runs([each.experiment_id for each in client.search_experiments()]):
        time.sleep(0.02)
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=20)


@contextmanager
def beside(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join()


def held(study):
    client = study.client
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    return [run.info.status for run in runs], len(client.search_model_versions())


def test_a_server_lost_in_the_middle_that_comes_back_holds_everything_once(study, server):
    def lose_and_bring_back():
        kill_after_the_first_run(study)
        time.sleep(3)
        servers.start(server, int(os.environ["MLFLOW_TRACKING_URI"].rpartition(":")[2]))

    with beside(lose_and_bring_back):
        Step(publish_study, retries=5, pause_s=2)(study.study)
    assert held(study) == (["FINISHED", "FINISHED"], 1)
    assert study.check() == []


def test_a_server_lost_for_good_is_one_line(study):
    with beside(lambda: kill_after_the_first_run(study)), pytest.raises(UnreachableError) as told:
        Step(publish_study, retries=1, pause_s=0.1)(study.study)
    assert str(told.value).startswith(os.environ["MLFLOW_TRACKING_URI"].join(["MLFLOW_TRACKING_URI=", ": "]))
    assert len(str(told.value).splitlines()) == 1
