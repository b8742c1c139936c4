"""No flow run shows as running for ever: not one whose process was killed, nor one whose server was away at its end."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from prefect.client.schemas import FlowRun
from prefect.states import AwaitingRetry, Completed, Pending, Running, Scheduled

from flows import servers
from flows.left_behind import NOTES, RUN_OF_WORKER, is_unended, own_note, settle_left
from flows.monitor import Monitor
from tests.ports import free_port

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

# A process of its own, as a stage is; what its step does follows from the argument.
STAGE = """
import json, os, signal, sys

import psutil

from flows.command import run_main
from flows.runner import Step, stage
from pipeline.errors import StudyError

what = sys.argv[1]

def work():
    if what.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, what))
    if what.startswith("lost"):
        server = psutil.Process(json.load(open(".servers/prefect.json"))["pid"])
        for process in [*server.children(recursive=True), server]:
            process.kill()
        psutil.wait_procs([server], timeout=20)
    if what == "lost, then failed":
        raise StudyError("no such image")

def some_stage():
    Step(work)()

run_main(stage("stage " + what)(some_stage))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a Prefect server of its own, up for the tests of this module."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("PREFECT_API_URL", raising=False)
        servers.start(servers.SERVERS["prefect"], free_port())
        yield folder
        servers.stop(servers.SERVERS["prefect"])


def run_stage(folder, what):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_CLIENT_MAX_RETRIES": "0"}
    return subprocess.run(
        [sys.executable, "-c", STAGE, what], cwd=folder, env=environment, capture_output=True, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # where it is ignored so that we may go on
    )  # fmt: skip


def states(what):
    """Of the flow run and its tasks, as the server's own database has them."""
    joined = "select task_run.state_type from task_run join flow_run on flow_run_id = flow_run.id"
    with sqlite3.connect(".prefect/prefect.db") as database:
        runs = database.execute("select state_type from flow_run where name = ?", [f"stage {what}"])
        tasks = database.execute(f"{joined} where flow_run.name = ?", [f"stage {what}"])
        return [state for (state,) in runs], {state for (state,) in tasks}


def notes():
    return list(NOTES.glob("*"))


def test_a_run_whose_process_was_killed_is_ended_by_the_next(folder):
    assert run_stage(folder, "SIGKILL").returncode == -signal.SIGKILL
    assert states("SIGKILL")[0] == ["RUNNING"]
    assert "1 runs of processes that are gone" in run_stage(folder, "fine").stderr
    assert states("SIGKILL")[0] == ["CRASHED"]
    assert states("SIGKILL")[1] <= {"CRASHED"}  # Prefect tells of tasks now and then, so that it may not know of it
    assert states("fine") == (["COMPLETED"], {"COMPLETED"})
    assert notes() == []


@pytest.mark.parametrize(("what", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_run_that_is_told_to_stop_ends_in_order(folder, what, code):
    run = run_stage(folder, what)
    assert run.returncode == code
    assert run.stderr.splitlines()[-1] == "stopped; run again to go on"
    assert "Traceback" not in run.stderr
    assert states(what)[0] == ["CRASHED"]
    assert notes() == []


def test_a_run_that_outlived_its_server_has_its_own_end_when_that_is_back(folder):
    run_stage(folder, what := "lost, then failed")
    assert states(what)[0] == ["RUNNING"]
    assert len(notes()) == 1
    servers.start(servers.SERVERS["prefect"], free_port())
    run_stage(folder, "after")
    assert states(what)[0] == ["FAILED"]
    assert notes() == []


@pytest.mark.parametrize(
    ("state", "needs_it"),
    [(Running(), True), (Pending(), True), (Completed(), False), (AwaitingRetry(), False), (Scheduled(), False)],
)
def test_a_run_that_has_begun_needs_an_end_but_not_by_the_process_that_does_it(state, needs_it, monkeypatch):
    run = FlowRun(flow_id=uuid4(), state=state)
    assert is_unended(run) == needs_it
    monkeypatch.setenv(RUN_OF_WORKER, str(run.id))
    assert not is_unended(run)


def test_a_note_of_a_process_that_lives_is_left_alone(folder):
    living = own_note("here")
    living.write()
    assert settle_left("here") == 0
    assert notes() == [living.path]
    living.path.unlink()


def test_the_other_processes_of_one_training_are_not_watched(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert not Monitor().on()
