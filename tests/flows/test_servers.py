"""What `make ui` starts is found again, stopped, and told apart from what a study started for itself."""

import os
import socket
import subprocess
import sys

import pytest

from flows import servers, ui
from flows.processes import Note, Process, keep, noted, process_of
from pipeline.errors import StudyError
from tests.ports import free_port


@pytest.fixture
def prefect(monkeypatch, tmp_path):
    """In Prefect's place a server that is up at once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_PORT", str(free_port()))
    light = servers.Server(
        "prefect",
        "Prefect",
        "PREFECT_PORT",
        0,
        lambda port: [sys.executable, "-m", "http.server", str(port), "--bind", servers.HOST],
        lambda port: {},
        "/",
        "/api",
        "PREFECT_API_URL",
    )
    monkeypatch.setitem(servers.SERVERS, "prefect", light)
    yield light
    servers.stop(light)


def gone() -> Process:
    """A process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = process_of(process.pid)
    process.communicate()
    return found


def test_a_study_starts_a_server_and_stops_it(prefect):
    with servers.prefect_server():
        assert servers.address_of("prefect") == f"http://127.0.0.1:{prefect.port}/api"
    assert noted("prefect") is None


def test_a_server_is_a_studys_own_before_it_answers(prefect, monkeypatch):
    """So a study that is killed meanwhile leaves none that the next takes for that of `make ui`."""
    seen = []
    monkeypatch.setattr(servers, "_wait_until_ready", lambda *told: seen.append(noted("prefect").owner))
    with servers.prefect_server():
        assert seen == [process_of(os.getpid())]


def test_a_port_that_is_none_is_refused(prefect, monkeypatch):
    monkeypatch.setenv("PREFECT_PORT", "42000x")
    with pytest.raises(StudyError, match="PREFECT_PORT: '42000x' is no port; give a number from 1 to 65535"):
        prefect.port  # noqa: B018


def test_a_study_leaves_the_server_of_make_ui_up(prefect):
    note = servers.start(prefect, prefect.port)
    with servers.prefect_server():
        assert noted("prefect") == note
    assert noted("prefect") == note


def test_what_a_killed_study_left_is_used_and_ends_with_the_next(prefect):
    note = servers.start(prefect, prefect.port)
    keep("prefect", note.model_copy(update={"owner": gone()}))
    with servers.prefect_server():
        assert noted("prefect").pid == note.pid
    assert noted("prefect") is None


def test_a_silent_server_of_a_study_that_was_killed_is_replaced(prefect, monkeypatch):
    note = servers.start(prefect, prefect.port)
    keep("prefect", note.model_copy(update={"owner": gone(), "url": f"http://127.0.0.1:{free_port()}"}))
    with servers.prefect_server():
        assert noted("prefect").pid != note.pid
    assert note.found() is None


def test_a_study_beside_another_leaves_the_others_server_to_it(prefect):
    note = servers.start(prefect, prefect.port)
    other = process_of(os.getppid())
    keep("prefect", note.model_copy(update={"owner": other}))
    with servers.prefect_server():
        pass
    assert noted("prefect").owner == other


def test_make_ui_takes_over_the_server_of_a_running_study(prefect):
    with servers.prefect_server():
        assert ui._address(prefect) == f"http://127.0.0.1:{prefect.port}"
    assert noted("prefect").owner is None


def test_a_port_that_is_taken_is_named_with_what_to_do(prefect):
    with socket.socket() as other:
        other.bind((servers.HOST, prefect.port))
        with pytest.raises(StudyError) as refused:
            servers.start(prefect, prefect.port)
    port = prefect.port
    assert str(refused.value) == (
        f"port {port} is taken by another program; stop that, or choose another: make ui PREFECT_PORT={port + 1}"
    )


def test_a_server_that_ends_at_once_names_its_log(prefect):
    broken = [sys.executable, "-c", "raise SystemExit('no')"]
    with pytest.raises(StudyError, match=r"its reason is at the end of \.servers/prefect\.log"):
        servers.start(servers.Server(**{**vars(prefect), "command": lambda port: broken}), free_port())
    assert noted("prefect") is None


def test_a_later_process_of_the_same_number_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".servers").mkdir()
    keep("prefect", Note(pid=os.getpid(), started=1.0))
    assert noted("prefect") is None


@pytest.mark.parametrize(("seconds", "is_it"), [(2, True), (-2, True), (60, False)])
def test_a_process_is_known_again_after_its_machines_clock_was_set(seconds, is_it):
    own = process_of(os.getpid())
    assert (own.model_copy(update={"started": own.started + seconds}).found() is not None) == is_it
