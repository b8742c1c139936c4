"""What `make ui` starts on this machine's loopback: Prefect (watch runs), MLflow (runs, models, versions), and a worker
that does what is started from Prefect's pages.

`make ui` starts all in the background, prints their addresses and leaves them up; `make ui-stop` stops them. Their
databases lie in the checkout, so a restart keeps the history.
"""

import argparse
import json
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
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock

import pipeline  # noqa: F401  (its import switches telemetry off, and servers inherit that)
from flows.command import run_main
from flows.processes import STATE, STOP_TIMEOUT_S, Note, Process, end, keep, log_of, noted, process_of, spawn
from pipeline.errors import StudyError

HOST = "127.0.0.1"
START_TIMEOUT_S = 180
WORKER, POOL = "worker", "study"


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
    if elsewhere := _elsewhere(server):
        return elsewhere
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
    with _one_at_a_time():
        if (last := noted("prefect")) and last.owner == owner:  # `make ui` may have taken it over
            end("prefect")


def _took_server(owner: Process) -> bool:
    """Whether the Prefect server is up for this process alone: started for it, or left behind by a killed study."""
    with _one_at_a_time():
        note = _found_up(SERVERS["prefect"])
        if note is None:
            start(SERVERS["prefect"], _free_port(SERVERS["prefect"].port), owner)
            return True
        if note.owner is None or note.owner.found():
            return False
        keep("prefect", note.model_copy(update={"owner": owner}))
        return True


def _found_up(server: Server) -> Note | None:
    """The note of a server that is up. One that is silent, and whose study was killed while it began, is ended."""
    note = noted(server.name)
    is_left = note and note.owner and not note.owner.found()
    if note and is_left and _fetched(note.url + server.health) is None:
        end(server.name)
        return None
    return note


@contextmanager
def _one_at_a_time() -> Iterator[None]:
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
    _when_ready(server.name, title, process, note, lambda: _fetched(health) is not None)
    return note


def stop(server: Server) -> bool:
    """Stops the server this project started; says whether there was one."""
    return end(server.name)


def start_all() -> None:
    for server in SERVERS.values():
        print(f"{server.title:8} {_address(server)}", flush=True)
    if not _elsewhere(SERVERS["prefect"]):
        _start_worker()
        print("worker   does what you start there: Deployments, study, Run")
    print("`make ui-stop` stops all; their logs are in .servers/")


def stop_all() -> None:
    if _end_worker():
        print("worker stopped")
    for server in SERVERS.values():
        if stop(server):
            print(f"{server.title} stopped")


def _address(server: Server) -> str:
    """Where the server's pages are: elsewhere if its variable says so, else on this machine, started if need be."""
    if elsewhere := _elsewhere(server):
        return f"{elsewhere} ({server.elsewhere} is set)"
    with _one_at_a_time():
        note = _found_up(server) or start(server, server.port)
        keep(server.name, note.model_copy(update={"owner": None}))  # one of a study stays up after it
    return note.url


def _elsewhere(server: Server) -> str:
    """Of its pages; empty where the server is on this machine."""
    address = os.environ.get(server.elsewhere, "")
    return address.removesuffix(server.api) if address.startswith("http") else ""


def _start_worker() -> None:
    """Anew where one is up, unless it is at work: params.yaml may offer other choices since."""
    if _runs_of_worker():
        return
    end(WORKER)
    api, began = SERVERS["prefect"].api, datetime.now(UTC)
    address = {"PREFECT_API_URL": page_of("prefect") + api}
    process = spawn(WORKER, [sys.executable, "-m", "flows.deployments"], address)
    note = Note(**process_of(process.pid).model_dump())
    _when_ready(WORKER, "the worker", process, note, lambda: _worker_is_up(address["PREFECT_API_URL"], began))


def _end_worker() -> bool:
    """First the runs that it does: each ends its stages and tells Prefect; the worker would kill them at once."""
    runs = _runs_of_worker()
    for run in runs:
        run.terminate()
    psutil.wait_procs(runs, STOP_TIMEOUT_S)
    return end(WORKER)


def _runs_of_worker() -> list[psutil.Process]:
    worker = (note := noted(WORKER)) and note.found()
    return worker.children() if worker else []


def _worker_is_up(api: str, since: datetime) -> bool:
    workers = json.loads(_fetched(f"{api}/work_pools/{POOL}/workers/filter", b"{}") or b"[]")
    return any(datetime.fromisoformat(each["last_heartbeat_time"]) >= since for each in workers)


def _when_ready(name: str, title: str, process: subprocess.Popen, note: Note, is_ready: Callable[[], bool]) -> None:
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


def _fetched(url: str, body: bytes | None = None) -> bytes | None:
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m flows.servers", description="Start or stop what `make ui` starts.")
    parser.add_argument("command", choices=["start", "stop"])
    run_main({"start": start_all, "stop": stop_all}[parser.parse_args().command])


if __name__ == "__main__":
    main()
