"""Explaining and scoring by a Ray cluster of separate processes: the same files as in one process."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clusters import STAGES, in_checkout, make_project
from tests.ports import free_port

pytestmark = pytest.mark.slow

WAIT_S = 120


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a Ray cluster of one machine, as docs/machines.md starts it."""
    pytest.importorskip("ray", reason="needs prefect-ray, of the extra `services`: make test-services")
    folder, client = tmp_path_factory.mktemp("ray"), free_port()
    options = [
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        f"--port={free_port()}",
        f"--ray-client-server-port={client}",
        "--num-cpus=2",
        "--include-dashboard=false",
        "--disable-usage-stats",
        f"--temp-dir=/tmp/ray{os.getpid()}",  # a short one: its sockets lie there
    ]
    with (folder / "log").open("ab") as log:
        command = [str(Path(sys.executable).parent / "ray"), "start", *options]
        patient = in_checkout(
            RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S=str(WAIT_S)
        )  # its 30 s are short on a busy machine
        process = subprocess.Popen(command, cwd=folder, env=patient, stdout=log, stderr=log)
    try:
        _wait_until_open(client, folder / "log")
        yield f"ray://127.0.0.1:{client}"
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for each in family:
            each.kill()
        psutil.wait_procs(family)
        shutil.rmtree(f"/tmp/ray{os.getpid()}", ignore_errors=True)


def _wait_until_open(port: int, log: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_a_cell_by_ray_has_the_files_of_one_process(address: str, prefect_api: str, tmp_path: Path):
    here = make_project(tmp_path / "here", {"kind": "local", "address": "none"})
    assert here.run("-c", STAGES).returncode == 0
    there = make_project(tmp_path / "there", {"kind": "ray", "address": address})
    done = there.run("-c", STAGES, PREFECT_API_URL=prefect_api)
    assert done.returncode == 0, done.stderr
    assert "lost" not in done.stderr
    assert there.hashes() == here.hashes()
