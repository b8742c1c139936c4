"""A small project whose stages are watched: run from the shell, and started and cancelled in the Prefect UI."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Failed

from flows import servers, ui
from flows.flow_runs import STUDY_TASK_RUN, hang_page, newest_page
from flows.monitor import monitor
from flows.plan import direct, planned
from flows.processes import end, log_of, noted
from flows.study import cells_of, stages_of
from pipeline.params import load_params
from tests.flows.promotable import wait_for
from tests.ports import free_port

ROOT = Path(__file__).parents[2]

# `good` is a flow, `bad` fails, `after` waits for it, `long` is a flow that does not end by itself.
STAGES = """
stages:
  good: {cmd: python hello.py good, outs: [good]}
  bad: {cmd: exit 3, deps: [good], outs: [bad]}
  after: {cmd: python hello.py after, deps: [bad], outs: [after]}
"""
LONG = "stages: {long: {cmd: python hello.py long 300, outs: [long]}}"
HELLO = """
import sys, time
from pathlib import Path
from flows.command import run_main
from flows.runner import stage

@stage("hello {dataset}-{model}")
def hello(dataset: str, model: str):
    time.sleep(float(sys.argv[2]) if sys.argv[2:] else 0)
    Path(sys.argv[1]).touch()

run_main(lambda: hello("busi", "vit"))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A DVC project with this checkout's code and a Prefect server of its own."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("flows", "pipeline", "prefect.yaml", "params.yaml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "hello.py").write_text(HELLO)
    (folder / "dvc.yaml").write_text(STAGES)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        patch.chdir(folder)
        patch.setenv("PREFECT_PORT", str(free_port()))
        patch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
        patch.setenv("PYTHONPATH", str(folder))
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
        server = servers.start(servers.SERVERS["prefect"], servers.SERVERS["prefect"].port)
        with temporary_settings({PREFECT_API_URL: server.api}):  # else its client starts a server in this process
            yield folder
        end(ui.WORKER)
        servers.stop(servers.SERVERS["prefect"])


@pytest.fixture
def client(project):
    with SyncPrefectClient(servers.address_of("prefect")) as found:
        yield found


def run_named(client, name):
    [run] = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"name": {"any_": [name]}}))
    return run


@pytest.mark.slow
def test_each_stage_is_a_task_of_the_studys_run_and_leads_to_its_own(project, client):
    ended = subprocess.run([sys.executable, "-m", "flows.study"], capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    assert "bad failed; the reason is above" in ended.stderr
    study, hello = run_named(client, "study"), run_named(client, "hello busi-vit")
    tasks = {task.name: task for task in client.read_task_runs() if task.flow_run_id == study.id}
    states = {name: task.state_name for name, task in tasks.items()}
    assert (study.state_name, states) == ("Failed", {"good": "Completed", "bad": "Failed", "after": "Not run"})
    assert hello.parent_task_run_id == tasks["good"].id
    assert {"stage: hello", "dataset: busi", "model: vit", "cell: busi-vit"} <= set(hello.tags)
    assert [each.id for each in tasks["after"].task_inputs["waits for"]] == [tasks["bad"].id]
    assert {each.id for each in tasks["bad"].task_inputs["waits for"]} == {tasks["good"].id, hello.id}


@pytest.mark.slow
def test_a_page_is_hung_once_on_the_newest_run_of_a_cell(project, client):
    for text in ("version 1", "version 1", "version 2"):
        hang_page(client, ["cell: busi-vit"], "version-busi-vit", text, "The model version of busi-vit")
    pages = [page for page in client.read_artifacts() if page.key == "version-busi-vit"]
    assert sorted(page.data for page in pages) == ["version 1", "version 2"]
    assert {page.flow_run_id for page in pages} == {run_named(client, "hello busi-vit").id}
    assert newest_page(client, "version-busi-vit") == "version 2"


@pytest.mark.slow
def test_the_study_is_started_and_cancelled_in_the_ui(project, client):
    (project / "dvc.yaml").write_text(LONG)
    ui.start_worker()
    deployments = {each.name: each for each in client.read_deployments()}
    assert deployments.keys() == {"study", "promote"}
    schema = deployments["study"].parameter_openapi_schema
    assert schema["properties"]["workers"]["anyOf"][0]["minimum"] == 1
    assert schema["properties"]["models"]["items"]["enum"] == list(load_params().study.models)
    assert [each.active for each in deployments["study"].schedules] == [False]
    run = client.create_flow_run_from_deployment(deployments["study"].id, parameters={"workers": 1})
    process = wait_for(lambda: next((each for each in psutil.process_iter() if is_long(each, project)), None))
    wait_for(lambda: client.read_flow_runs(flow_run_filter=child_of(run)))
    client.set_flow_run_state(run.id, Cancelling())
    assert psutil.wait_procs([process], timeout=60)[1] == [], log_of(ui.WORKER).read_text()
    wait_for(lambda: not client.read_flow_runs(flow_run_filter=child_of(run))[0].state.is_running())
    assert not (project / "long").exists()


@pytest.mark.slow
def test_a_run_from_the_ui_is_ended_by_the_next_process_if_all_of_its_own_are_killed(project, client):
    (project / "dvc.yaml").write_text(LONG)
    ui.start_worker()
    deployment = client.read_deployment_by_name("study/study")
    run = client.create_flow_run_from_deployment(deployment.id, parameters={"workers": 1})
    long = wait_for(lambda: next((each for each in psutil.process_iter() if is_long(each, project)), None))
    worker = noted(ui.WORKER).found()
    family = [worker, *worker.children(recursive=True), *long.parents()[:2], long]
    for process in {each for each in family if each.pid not in (1, os.getpid())}:
        process.kill()
    assert client.read_flow_run(run.id).state.is_running()
    subprocess.run([sys.executable, "hello.py", "good"], check=True)
    assert client.read_flow_run(run.id).state.is_crashed()


def is_long(process, project):
    try:
        return process.cmdline()[1:] == ["hello.py", "long", "300"] and process.cwd() == str(project)
    except psutil.Error:
        return False


def child_of(run):
    return FlowRunFilter.model_validate({"parent_flow_run_id": {"any_": [run.id]}})


@pytest.mark.slow
def test_a_restart_keeps_the_history(project):
    end(ui.WORKER)
    assert servers.stop(servers.SERVERS["prefect"])
    servers.start(servers.SERVERS["prefect"], servers.SERVERS["prefect"].port)
    with SyncPrefectClient(servers.address_of("prefect")) as client:
        assert ("hello busi-vit", "Completed") in {(run.name, run.state_name) for run in client.read_flow_runs()}


class Inbox(BaseHTTPRequestHandler):
    """Keeps what is posted to it."""

    got: list[dict] = []  # noqa: RUF012 (one for the server's handlers)

    def do_POST(self):
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.mark.slow
def test_the_automations_of_the_docs_tell_when_the_study_fails(project, client):
    command = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/prefect.md").read_text(), re.DOTALL)[-1]
    (project / "docs").symlink_to(ROOT / "docs")
    inbox = HTTPServer((servers.HOST, 0), Inbox)
    threading.Thread(target=inbox.serve_forever, daemon=True).start()
    told = {"NOTIFY_URL": f"http://{servers.HOST}:{inbox.server_port}/", "PREFECT_API_URL": str(client.api_url)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["bash", "-ec", command], env=os.environ | told | {"PATH": path}, check=True)
    names = {each["name"] for each in client.request("POST", "/automations/filter").json()}
    assert names == {"tell when the study fails", "mark runs that have died"}
    run = client.create_flow_run_from_deployment(client.read_deployment_by_name("study/study").id)
    client.set_flow_run_state(run.id, Failed(message="no room"), force=True)
    wait_for(lambda: Inbox.got)
    assert Inbox.got[0]["text"].startswith("The study: Failed no room http")
    inbox.shutdown()


def test_without_a_server_nothing_is_planned_and_stages_run(monkeypatch):
    ran = []
    monkeypatch.setattr(monitor, "_on", False)
    monkeypatch.setattr("flows.plan.reproduce", lambda stage, told: ran.append((stage, told)) or int(stage == "bad"))
    with planned({"good": set(), "bad": {"good"}}) as plan:
        assert [plan.reproduce(stage, {"A": "1"}) for stage in ("good", "bad")] == [0, 1]
    assert ran == [("good", {"A": "1"}), ("bad", {"A": "1"})]
    assert STUDY_TASK_RUN not in os.environ


def test_an_edge_leads_only_from_what_a_stage_waits_for_directly():
    waits = {"fetch": set(), "prepare": {"fetch"}, "fit": {"prepare"}, "report": {"fetch", "prepare", "fit"}}
    assert direct(waits) == {"fetch": set(), "prepare": {"fetch"}, "fit": {"prepare"}, "report": {"fit"}}


def test_some_cells_take_what_they_wait_for_and_no_report():
    waits = {
        "preprocess@busi": set(),
        "preprocess@pbc": set(),
        "audit@busi": {"preprocess@busi"},
        "finetune@busi-vit": {"preprocess@busi"},
        "finetune_seed@busi-vit-1": {"preprocess@busi"},
        "finetune@pbc-vit": {"preprocess@pbc"},
        "finetune@busi-swin": {"preprocess@busi"},
        "report": {"finetune@busi-vit", "finetune@busi-swin", "finetune@pbc-vit"},
    }
    cells = cells_of(load_params().study, ["busi"], ["vit"])
    assert cells == {"busi-vit"}
    assert stages_of(cells, waits).keys() == {"preprocess@busi", "finetune@busi-vit", "finetune_seed@busi-vit-1"}


def test_a_dataset_alone_takes_all_models():
    study = load_params().study
    assert cells_of(study, ["busi"], []) == {f"busi-{model}" for model in study.models}
