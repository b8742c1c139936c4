"""Real servers on this machine's loopback, in folders of their own, for as long as a block lasts."""

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from flows import servers
from tests.ports import free_port

HOST = servers.HOST
EMPTY: Mapping[str, str] = MappingProxyType({})
NO_LOGIN = ("postgres", "nobody")  # who runs PostgreSQL where the tests run as root, which it refuses


@contextmanager
def started(server: servers.Server, folder: Path) -> Iterator[str]:
    """The address of a server that keeps its files and its log in `folder`."""
    port = free_port()
    with contextlib.chdir(folder):
        servers.start(server, port)
    try:
        yield f"http://{HOST}:{port}"
    finally:
        with contextlib.chdir(folder):
            servers.stop(server)


def mlflow_server_of_make_ui() -> servers.Server:
    """Its stores are those of the environment."""
    return servers.SERVERS["mlflow"]


def mlflow_server(backend_store: str, artifacts: str, environment: Mapping[str, str] = EMPTY) -> servers.Server:
    """A server that hands artifacts through, so that its clients need to know its own address only."""
    stores = ["--backend-store-uri", backend_store, "--serve-artifacts", "--artifacts-destination", artifacts]

    def command(port: int) -> list[str]:
        address = ["--host", HOST, "--port", str(port)]
        return [sys.executable, "-m", "mlflow", "server", *stores, *address, "--workers", "1"]

    return _server("mlflow", command, "/health", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment})


def s3_server() -> servers.Server:
    """Moto's: it speaks S3 over HTTP and keeps objects in memory."""
    return _server("s3", lambda port: [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], "/moto-api/")


def _server(
    name: str, command: Callable[[int], list[str]], health: str, environment: Mapping[str, str] = EMPTY
) -> servers.Server:
    return servers.Server(name, name, "", 0, command, lambda port: dict(environment), health, "", "")


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a database server whose one user is `study`, without a database's name."""
    with tempfile.TemporaryDirectory() as temporary:  # pytest's own folders are closed to other users
        folder, port = Path(temporary), free_port()
        if user := _unprivileged_user():
            shutil.chown(folder, user)
        settings = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories={folder} -c fsync=off"
        _postgresql_tool(folder, "initdb", "--username", "study", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
        _postgresql_tool(folder, "pg_ctl", "start", "--wait", "--log", str(folder / "log"), "--options", settings)
        try:
            yield f"postgresql://study@{HOST}:{port}"
        finally:
            _postgresql_tool(folder, "pg_ctl", "stop", "--wait", "--mode", "fast")


def _postgresql_tool(folder: Path, tool: str, *arguments: str) -> None:
    """Runs one of PostgreSQL's commands on the cluster in `folder`."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # not on the path there
    program = shutil.which(tool, path=os.pathsep.join([*map(str, debian), os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip("needs PostgreSQL: apt install postgresql")
    user = _unprivileged_user()
    done = subprocess.run(
        [program, *arguments, "--pgdata", str(folder / "cluster")],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        user=user,
        extra_groups=[] if user else None,
    )
    if done.returncode:
        pytest.skip(f"PostgreSQL does not run here: {tool}: {done.stderr.strip()}")


def _unprivileged_user() -> str | None:
    """None where the tests run as one already."""
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in NO_LOGIN if name in known), None) if os.geteuid() == 0 else None
