"""Real server processes of the promoted model: MLflow's own, and ours."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 180

COMMANDS = {
    "mlflow models serve": (
        ["-m", "mlflow", "models", "serve", "-m", "models:/busi-classifier@champion", "--env-manager", "local"]
    ),
    "flows.serve": ["-m", "flows.serve", "--dataset", "busi"],
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    name: str
    url: str
    log: Path

    def post(self, body: bytes | Iterable[bytes], content_type: str | None = "application/json") -> Answer:
        """Bodies in parts are sent without a length."""
        headers = {} if content_type is None else {"Content-Type": content_type}
        return self._answer(urllib.request.Request(f"{self.url}/invocations", body, headers))

    def predict(self, rows: list, **params: object) -> Answer:
        return self.post(json.dumps({"inputs": rows, "params": params}).encode())

    def get(self, path: str) -> Answer:
        return self._answer(urllib.request.Request(self.url + path))

    def _answer(self, request: urllib.request.Request) -> Answer:
        try:
            with urllib.request.urlopen(request, timeout=START_TIMEOUT_S) as response:
                return Answer(response.status, dict(response.headers), response.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers), error.read())


@contextmanager
def running(name: str, folder: Path, *options: str) -> Iterator[Server]:
    """The server as a user starts it in the project's folder; it need not answer yet."""
    port, log = free_port(), folder / f"{name}.log"
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with log.open("wb") as output:
        process = psutil.Popen(
            [sys.executable, *COMMANDS[name], *options, "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "PATH": tools},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Server(name, f"http://127.0.0.1:{port}", log)
    finally:
        family = [process, *process.children(recursive=True)]
        for member in family:
            member.terminate()
        for survivor in psutil.wait_procs(family, timeout=20)[1]:
            survivor.kill()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            assert server.get("/ping").status == 200
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{server.name} did not answer: {server.log.read_text()}")
