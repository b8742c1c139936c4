"""Nothing leaves the machine, no pickle is read: the guard that watches a study's processes, and the tools' switches.

The study itself runs under this guard in `test_end_to_end.py` and wherever else a test runs one.
"""

import json
import os
import pickle
import pty
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pipeline import QUIET
from tests.study import GUARD, ROOT

ELSEWHERE = "192.0.2.1"  # an address that belongs to nobody (RFC 5737)

ATTEMPTS = {
    "a connection": f"import socket; socket.create_connection(('{ELSEWHERE}', 80))",
    "a look-up": "import urllib.request; urllib.request.urlopen('http://example.org')",
    "a datagram": f"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{ELSEWHERE}', 53))",
    "a connection over IPv6": "import socket; socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "a server for every interface": "import socket; socket.create_server(('', 0))",
    "a server for one interface": f"import socket; socket.create_server(('{ELSEWHERE}', 0))",
    "a child's connection": (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"{ELSEWHERE}\", 80))'])"
    ),
    "a swallowed error": f"import socket\ntry: socket.create_connection(('{ELSEWHERE}', 80))\nexcept OSError: pass",
}

READERS = {
    "pickle.load": "import pickle; pickle.load(open('file', 'rb'))",
    "pickle.loads": "import pickle; pickle.loads(open('file', 'rb').read())",
    "pickle.Unpickler": "import pickle; pickle.Unpickler(open('file', 'rb')).load()",
    "the unpickler in Python": "import pickle; pickle._Unpickler(open('file', 'rb')).load()",
    "numpy": "import numpy; numpy.load('file', allow_pickle=True)",
    "joblib": "import joblib; joblib.load('file')",
    "torch": "import torch; torch.load('archive', weights_only=False)",
}

HARMLESS = {
    "loopback": """
        import socket
        for family, host in ((socket.AF_INET, '127.0.0.1'), (socket.AF_UNIX, 'here')):
            server = socket.socket(family)
            server.bind((host, 0) if family == socket.AF_INET else host)
            server.listen()
            socket.socket(family).connect(server.getsockname())
        socket.getaddrinfo('localhost', 80)
    """,
    "worker processes": """
        import multiprocessing, operator
        if __name__ == '__main__':
            with multiprocessing.get_context('spawn').Pool(1) as pool:
                assert pool.apply(operator.add, (1, 2)) == 3
    """,
    "a pickle of plain values": "import pickle; assert pickle.loads(pickle.dumps({'a': [1, 'b']})) == {'a': [1, 'b']}",
}

USE_THE_TOOLS = """
    import os, time
    os.environ['MLFLOW_ALLOW_FILE_STORE'] = 'true'  # quicker to make than a database
    import pipeline, albumentations, mlflow, prefect
    mlflow.set_tracking_uri('store')
    mlflow.create_experiment('any')
    time.sleep(2)  # what they ask, they ask in threads
"""


@dataclass(frozen=True)
class Watched:
    attempts: list[str]
    output: str
    ended_well: bool


def watched(folder: Path, code: str, **variables: str) -> Watched:
    """A process that runs `code` at a terminal in an empty home, as a newcomer's first does."""
    (folder / "script.py").write_text(textwrap.dedent(code))
    path = os.pathsep.join(map(str, (GUARD, ROOT)))
    quiet = {"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": path, "GUARD_ATTEMPTS": str(folder / "attempts")}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "script.py"], cwd=folder, env=quiet | variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    output = _read(ours)
    attempts = folder / "attempts"
    lines = attempts.read_text().splitlines() if attempts.exists() else []
    return Watched(lines, output, ended_well=process.wait() == 0)


def _read(terminal: int) -> str:
    """Until the last process has left the terminal, which Linux tells by an error."""
    parts = []
    with os.fdopen(terminal, "rb", buffering=0) as output, suppress(OSError):
        while part := output.read(1 << 16):
            parts.append(part)
    return b"".join(parts).decode(errors="replace")


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt_to_leave_the_machine_is_seen(name, tmp_path):
    [attempt] = watched(tmp_path, ATTEMPTS[name]).attempts
    assert attempt.startswith("network: socket.")


class Evil:
    def __reduce__(self):
        return open, ("was run", "w")


@pytest.mark.parametrize("name", READERS)
def test_a_pickle_that_could_run_code_is_seen_and_not_run(name, tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "archive")
    attempts = watched(tmp_path, READERS[name]).attempts
    assert attempts
    assert all(attempt.startswith("pickle: ") for attempt in attempts)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("name", HARMLESS)
def test_what_stays_on_the_machine_is_let_through(name, tmp_path):
    seen = watched(tmp_path, HARMLESS[name])
    assert (seen.attempts, seen.ended_well) == ([], True), seen.output


def alone(folder: Path, *command: str) -> dict:
    subprocess.run([sys.executable, GUARD / "alone.py", folder / "report", *command], check=False)
    report = json.loads((folder / "report").read_text())
    if "refused" in report:
        pytest.skip(f"no network of its own here: {report['refused']}")
    return report


def test_a_packet_of_a_program_that_is_not_python_is_counted(tmp_path):
    assert alone(tmp_path, "git", "ls-remote", f"git://{ELSEWHERE}/")["packets"] > 0


def test_a_program_that_stays_on_the_machine_sends_no_packet(tmp_path):
    assert alone(tmp_path, "git", "ls-remote", "git://127.0.0.1:1/") == {"packets": 0}


@pytest.mark.slow
def test_the_tools_ask_nobody(tmp_path):
    seen = watched(tmp_path, USE_THE_TOOLS)
    assert (seen.attempts, seen.ended_well) == ([], True), seen.output


@pytest.mark.slow
def test_the_tools_do_ask_where_a_user_switches_that_on(tmp_path):
    """So the switches are what keeps them quiet, not the place where the tests run."""
    on = dict.fromkeys(QUIET, "false") | {"NO_ALBUMENTATIONS_UPDATE": ""}
    seen = watched(tmp_path, USE_THE_TOOLS, **on)
    hosts = {attempt.split()[2] for attempt in seen.attempts}
    assert {"pypi.org", "config.mlflow-telemetry.io"} <= hosts, seen.output  # albumentations' and MLflow's
