"""The servers on this machine's loopback: Prefect (watch runs) and MLflow (runs, models, versions).

`make ui` starts both until they are stopped, a study the first for its own time. Their databases lie in the checkout,
so a restart keeps the history.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

import pipeline  # noqa: F401  (its import switches telemetry off, and servers inherit that)
from flows.processes import STATE, Note, Process, end, keep, log_of, noted, process_of, spawn
from pipeline.errors import StudyError

HOST = "127.0.0.1"
START_TIMEOUT_S = 180


@dataclass(frozen=True)
class Server:
    name: str
    title: str
    port_variable: str
    default_port: int
    command: Callable[[int], list[str]]
    environment: Callable[[int], dict[str, str]]
    health: str  # path that answers 200 when the server is ready
    api: str  # path that clients use
    elsewhere: str  # variable that names such a server elsewhere

    @property
    def port(self) -> int:
        """
        Raises:
            StudyError: its variable holds no port.
        """
        told = os.environ.get(self.port_variable, str(self.default_port))
        if not told.isdecimal() or not 0 < int(told) < 1 << 16:
            raise StudyError(f"{self.port_variable}: {told!r} is no port; give a number from 1 to 65535")
        return int(told)


def _prefect_command(port: int) -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]


def _prefect_environment(port: int) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(Path(".prefect").absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",  # else its pages ask port 4200, wherever they are
        "PREFECT_UI_URL": f"http://{HOST}:{port}",  # to which messages link
    }


def _mlflow_command(port: int) -> list[str]:
    from pipeline.tracking import artifact_root, tracking_uri

    store = ["--backend-store-uri", tracking_uri(), "--default-artifact-root", artifact_root()]
    return [sys.executable, "-m", "mlflow", "server", *store, "--host", HOST, "--port", str(port), "--workers", "1"]


def _mlflow_environment(port: int) -> dict[str, str]:
    # Its job runner starts nine processes that the study has no use for.
    return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


SERVERS = {
    "prefect": Server(
        "prefect",
        "Prefect",
        "PREFECT_PORT",
        4200,
        _prefect_command,
        _prefect_environment,
        "/api/health",
        "/api",
        "PREFECT_API_URL",
    ),
    "mlflow": Server(
        "mlflow",
        "MLflow",
        "MLFLOW_PORT",
        5000,
        _mlflow_command,
        _mlflow_environment,
        "/health",
        "",
        "MLFLOW_TRACKING_URI",
    ),
}


def address_of(name: str) -> str | None:
    """The API address of a server that this project started and that still lives, else None."""
    return note.api if (note := noted(name)) else None


def page_of(name: str) -> str:
    """Where a server's pages are, or would be once `make ui` has started it."""
    server = SERVERS[name]
    if pages := elsewhere(server):
        return pages
    return note.url if (note := noted(name)) else f"http://{HOST}:{server.port}"


@contextmanager
def prefect_server() -> Iterator[None]:
    """A Prefect server for the time of the block: the one that is up already, or one that ends with the block.

    One that a killed study has left behind ends with the block too.
    """
    owner = process_of(os.getpid())
    if os.environ.get("PREFECT_API_URL") or not _took_server(owner):
        yield
        return
    try:
        yield
    finally:
        try:
            _send_logs()
        finally:
            _end_own_server(owner)


def _end_own_server(owner: Process) -> None:
    with one_at_a_time():
        if (last := noted("prefect")) and last.owner == owner:  # `make ui` may have taken it over
            end("prefect")


def _took_server(owner: Process) -> bool:
    """Whether the Prefect server is up for this process alone: started for it, or left behind by a killed study."""
    with one_at_a_time():
        note = found_up(SERVERS["prefect"])
        if note is None:
            start(SERVERS["prefect"], _free_port(SERVERS["prefect"].port), owner)
            return True
        if note.owner is None or note.owner.found():
            return False
        keep("prefect", note.model_copy(update={"owner": owner}))
        return True


def found_up(server: Server) -> Note | None:
    """The note of a server that is up. One that is silent, and whose study was killed while it began, is ended."""
    note = noted(server.name)
    is_left = note and note.owner and not note.owner.found()
    if note and is_left and fetched(note.url + server.health) is None:
        end(server.name)
        return None
    return note


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Else two would look, and each start a server on one database."""
    STATE.mkdir(exist_ok=True)
    with FileLock(STATE / "lock"):
        yield


def _send_logs() -> None:
    """Prefect's library, where this process has used it, sends log lines some at a time: the last before the end."""
    if handlers := sys.modules.get("prefect.logging.handlers"):
        handlers.APILogHandler().flush()


def start(server: Server, port: int, owner: Process | None = None) -> Note:
    """Starts a server and waits until it answers.

    Args:
        owner: what it is up for; noted from the start, so that whoever finds it after a kill knows.

    Raises:
        StudyError: its port is taken, or it ended or stayed silent; the log file is named.
    """
    if _taken(port):
        raise StudyError(
            f"port {port} is taken by another program; stop that, or choose another: "
            f"make ui {server.port_variable}={port + 1}"
        )
    url = f"http://{HOST}:{port}"
    process = spawn(server.name, server.command(port), server.environment(port))
    note = Note(**process_of(process.pid).model_dump(), url=url, api=url + server.api, owner=owner)
    title, health = f"the {server.title} server", url + server.health
    when_ready(server.name, title, process, note, lambda: fetched(health) is not None)
    return note


def stop(server: Server) -> bool:
    """Stops the server this project started; says whether there was one."""
    return end(server.name)


def elsewhere(server: Server) -> str:
    """Of its pages; empty where the server is on this machine."""
    address = os.environ.get(server.elsewhere, "")
    return address.removesuffix(server.api) if address.startswith("http") else ""


def when_ready(name: str, title: str, process: subprocess.Popen, note: Note, is_ready: Callable[[], bool]) -> None:
    """Notes a process that was started and waits for it; one that does not become ready is ended."""
    keep(name, note)
    try:
        _wait_until_ready(name, title, process, is_ready)
    except BaseException:
        end(name)
        raise


def _wait_until_ready(name: str, title: str, process: subprocess.Popen, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StudyError(f"{title} ended at once; its reason is at the end of {log_of(name)}")
        if is_ready():
            return
        time.sleep(0.2)
    raise StudyError(f"{title} did not answer within {START_TIMEOUT_S} s; see {log_of(name)}")


def fetched(url: str, body: bytes | None = None) -> bytes | None:
    """None where there is no good answer."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.read()
    except (OSError, urllib.error.URLError):
        return None


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _free_port(wanted: int) -> int:
    """`wanted` if it is free, else one that the system picks."""
    if not _taken(wanted):
        return wanted
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
