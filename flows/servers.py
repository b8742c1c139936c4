"""The two servers on this machine's loopback: Prefect (watch runs) and MLflow (runs, models, versions).

`make ui` starts both in the background, prints their addresses and leaves them up; `make ui-stop` stops them. Their
databases lie in the checkout, so a restart keeps the history. A server writes to a log file, never to a pipe: Prefect's
own `--background` dies with its pipe under load.
"""

import argparse
import json
import logging
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

import psutil

import pipeline  # noqa: F401  (its import switches telemetry off, and servers inherit that)
from pipeline.errors import StudyError
from pipeline.files import write_text

log = logging.getLogger("flows")

HOST = "127.0.0.1"
STATE = Path(".servers")  # address, process id and log of each server
START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 20


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
        return int(os.environ.get(self.port_variable, self.default_port))


def _prefect_command(port: int) -> list[str]:
    return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]


def _prefect_environment(port: int) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(Path(".prefect").absolute()),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"http://{HOST}:{port}/api",  # else its pages ask port 4200, wherever they are
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
    state = _state(name)
    return state["api"] if state and _process(state) else None


def page_of(name: str) -> str:
    """Where a server's pages are, or would be once `make ui` has started it."""
    server, state = SERVERS[name], _state(name)
    if (elsewhere := os.environ.get(server.elsewhere, "")).startswith("http"):
        return elsewhere.removesuffix(server.api)
    return state["url"] if state and _process(state) else f"http://{HOST}:{server.port}"


@contextmanager
def prefect_server() -> Iterator[None]:
    """A Prefect server for the time of the block: the one that is up already, or one that ends with the block."""
    if os.environ.get("PREFECT_API_URL") or address_of("prefect"):
        yield
        return
    start(SERVERS["prefect"], _free_port(SERVERS["prefect"].port))
    try:
        yield
    finally:
        stop(SERVERS["prefect"])


def start(server: Server, port: int) -> None:
    """Starts a server and waits until it answers.

    Raises:
        StudyError: its port is taken, or it ended or stayed silent; the log file is named.
    """
    if _taken(port):
        raise StudyError(
            f"port {port} is taken by another program; stop that, or choose another: "
            f"make ui {server.port_variable}={port + 1}"
        )
    STATE.mkdir(exist_ok=True)
    log_path = STATE / f"{server.name}.log"
    with log_path.open("ab") as log_file:
        process = subprocess.Popen(
            server.command(port),
            env={**os.environ, **server.environment(port)},
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )
    url = f"http://{HOST}:{port}"
    started = psutil.Process(process.pid).create_time()
    state = {"pid": process.pid, "started": started, "url": url, "api": url + server.api}
    write_text(_state_path(server.name), json.dumps(state))
    try:
        _wait_until_ready(server, process, url + server.health, log_path)
    except BaseException:
        stop(server)
        raise


def stop(server: Server) -> bool:
    """Stops the server this project started; says whether there was one."""
    process = _process(_state(server.name))
    _state_path(server.name).unlink(missing_ok=True)
    if process is None:
        return False
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for survivor in left:
        survivor.kill()
    return True


def start_all() -> None:
    for server in SERVERS.values():
        print(f"{server.title:8} {_address(server)}", flush=True)
    print("`make ui-stop` stops both; their logs are in .servers/")


def _address(server: Server) -> str:
    """Where the server's pages are: elsewhere if its variable says so, else on this machine, started if need be."""
    if (elsewhere := os.environ.get(server.elsewhere, "")).startswith("http"):
        return f"{elsewhere.removesuffix(server.api)} ({server.elsewhere} is set)"
    if address_of(server.name) is None:
        start(server, server.port)
    return (_state(server.name) or {})["url"]


def stop_all() -> None:
    for server in SERVERS.values():
        if stop(server):
            print(f"{server.title} stopped")


def _wait_until_ready(server: Server, process: subprocess.Popen, url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise StudyError(f"the {server.title} server ended at once; its reason is at the end of {log_path}")
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    raise StudyError(f"the {server.title} server did not answer within {START_TIMEOUT_S} s; see {log_path}")


def _state_path(name: str) -> Path:
    return STATE / f"{name}.json"


def _state(name: str) -> dict | None:
    try:
        return json.loads(_state_path(name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _process(state: dict | None) -> psutil.Process | None:
    """The server's process while it runs. The start time tells it from a later process that was given its number."""
    if state is None:
        return None
    try:
        process = psutil.Process(state["pid"])
        lives = process.create_time() == state["started"] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if lives else None


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
    parser = argparse.ArgumentParser(prog="python -m flows.servers", description="Start or stop the two servers.")
    parser.add_argument("command", choices=["start", "stop"])
    try:
        {"start": start_all, "stop": stop_all}[parser.parse_args().command]()
    except StudyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
