"""Steps run once and their own outcome counts, with a Prefect server, without one, and with one that is lost."""

import json
import logging
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flows import servers
from flows.artifacts import show_table
from flows.monitor import monitor
from flows.options import main
from flows.runner import Step, stage
from pipeline.errors import StudyError
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture
def no_server(monkeypatch, tmp_path):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(monitor, "_on", None)


@pytest.fixture(scope="module")
def server_folder(tmp_path_factory):
    """A folder with a Prefect server of its own, up for the tests of this module."""
    folder = tmp_path_factory.mktemp("server")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        server = servers.SERVERS["prefect"]
        servers.start(server, free_port())
        yield folder
        servers.stop(server)


@pytest.fixture
def with_server(server_folder, monkeypatch):
    monkeypatch.chdir(server_folder)
    monkeypatch.setenv("PREFECT_API_URL", servers.address_of("prefect"))
    monkeypatch.setattr(monitor, "_on", None)


def counting(results):
    """A step function that gives or raises the next of `results`, and the list of its calls."""
    calls = []

    def work():
        calls.append(len(calls))
        result = results[len(calls) - 1]
        if isinstance(result, Exception):
            raise result
        return result

    return work, calls


@pytest.mark.slow
def test_the_servers_pages_ask_the_server_they_came_from(with_server):
    api = servers.address_of("prefect")
    with urllib.request.urlopen(api.removesuffix("/api") + "/ui-settings") as answer:
        assert json.load(answer)["api_url"] == api


def test_without_a_server_a_stage_runs_plainly_and_says_so(no_server, caplog):
    caplog.set_level(logging.INFO, "flows")
    work, calls = counting([41])
    step = Step(work)
    assert stage("plain")(lambda: step() + 1)() == 42
    assert calls == [0]
    assert "running plainly" in caplog.text


def test_a_dead_address_is_noticed_and_the_stage_runs(no_server, monkeypatch, caplog):
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    assert Step(lambda: 7)() == 7
    assert "does not answer" in caplog.text


def test_a_step_is_tried_again_as_often_as_it_says(no_server):
    work, calls = counting([RuntimeError("once"), RuntimeError("twice"), "done"])
    assert Step(work, retries=2, pause_s=0)() == "done"
    assert calls == [0, 1, 2]


def test_the_last_error_is_the_steps_own(no_server):
    work, _ = counting([RuntimeError("once"), ValueError("twice")])
    with pytest.raises(ValueError, match="twice"):
        Step(work, retries=1, pause_s=0)()


def test_what_the_user_must_mend_is_not_tried_again(no_server):
    work, calls = counting([StudyError("params.yaml: mend it"), "never"])
    with pytest.raises(StudyError):
        Step(work, retries=3)()
    assert calls == [0]


def test_a_users_problem_ends_in_one_line_and_code_2(no_server, monkeypatch, capsys):
    @stage("refusing {dataset}")
    def refusing(dataset):
        raise StudyError(f"datasets.{dataset}.source: gone; give another")

    monkeypatch.chdir(ROOT)  # where params.yaml tells the known datasets
    monkeypatch.setattr("sys.argv", ["refusing", "--dataset", "pbc"])
    with pytest.raises(SystemExit) as end:
        main(refusing)
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith("error: datasets.pbc.source: gone; give another\n")


def test_an_unknown_model_is_refused_with_the_known_ones(no_server, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["finetune", "--dataset", "pbc", "--model", "resnet"])
    with pytest.raises(SystemExit):
        main(stage("finetune")(lambda dataset, model: None))
    assert "invalid choice: 'resnet' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "seed"), [([], None), (["--seed", "1"], 1)])
def test_an_argument_with_a_default_may_be_left_out(no_server, monkeypatch, given, seed):
    @stage("repeating")
    def repeating(dataset: str, seed: int | None = None):
        got.append((dataset, seed))

    got = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["repeating", "--dataset", "pbc", *given])
    main(repeating)
    assert got == [("pbc", seed)]


@pytest.mark.parametrize("given", [[], ["--dataset", "pbc", "--seed", "one"]])
def test_an_argument_left_out_without_a_default_or_of_another_type_is_refused(no_server, monkeypatch, given):
    def repeating(dataset: str, seed: int | None = None):
        raise AssertionError("it ran")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["repeating", *given])
    with pytest.raises(SystemExit) as end:
        main(stage("repeating")(repeating))
    assert end.value.code == 2


@pytest.mark.slow
def test_with_a_server_the_run_its_tasks_and_its_table_are_there(with_server):
    step = Step(named_step)

    @stage("seen {dataset}")
    def seen(dataset):
        show_table("seen table", [{"metric": "auc", "value": 0.5}], "A table")
        return step(dataset)

    assert seen("busi") == "busi"
    runs, tasks, tables = in_prefect()
    assert "seen busi" in {run.name: run.state_name for run in runs if run.state_name == "Completed"}
    assert "named step" in tasks
    assert "seen-table" in tables


@pytest.mark.slow
def test_a_run_may_be_named_by_what_its_arguments_make(with_server):
    @stage(lambda dataset, seed=None: f"named {dataset}" if seed is None else f"named {dataset} seed {seed}")
    def named(dataset: str, seed: int | None = None):
        return seed

    assert (named("busi"), named(dataset="busi", seed=1)) == (None, 1)
    assert {"named busi", "named busi seed 1"} <= {run.name for run in in_prefect()[0]}


@pytest.mark.slow
def test_with_a_server_a_steps_error_is_its_own_and_the_run_failed(with_server):
    work, calls = counting([StudyError("a mask does not fit")])

    @stage("failing")
    def failing():
        Step(work)()

    with pytest.raises(StudyError, match="a mask does not fit"):
        failing()
    assert calls == [0]
    assert {run.name: run.state_name for run in in_prefect()[0]}["failing"] == "Failed"


# A process of its own: Prefect remembers the first address that a process used.
LOSING = """
import sys

from flows import servers
from flows.command import run_main
from flows.runner import Step, stage

calls = []

def step(name):
    calls.append(name)
    return name

@stage("orphan")
def orphan():
    first = Step(step)("before")
    servers.stop(servers.SERVERS["prefect"])
    return first, Step(step)("after")

servers.start(servers.SERVERS["prefect"], int(sys.argv[1]))
run_main(lambda: print("result", orphan(), "calls", calls))
"""


@pytest.mark.slow
def test_a_server_lost_in_the_middle_costs_the_view_not_the_result(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(ROOT), "PREFECT_CLIENT_MAX_RETRIES": "0"}  # between tries it would wait
    command = [sys.executable, "-c", LOSING, str(free_port())]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "result ('before', 'after') calls ['before', 'after']" in run.stdout, run.stderr
    assert "Prefect server lost" in run.stderr
    assert run.returncode == 0


def named_step(value):
    return value


def in_prefect():
    """Flow runs, names of task runs and keys of artifacts that the server holds."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
        tasks = {task.name for task in client.read_task_runs()}
        return runs, tasks, {artifact.key for artifact in client.read_artifacts()}
