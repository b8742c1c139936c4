"""Starts what `make ui` starts, prints the addresses at which that listens as JSON, and stops them.

`python -m listening PORT` in a study's folder; PORT is for MLflow, that for Prefect stands in the environment.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil


def addresses() -> list[str]:
    """Where what was started, and its children, accept connections."""
    started = [psutil.Process(json.loads(path.read_text())["pid"]) for path in Path(".servers").glob("*.json")]
    family = [process for each in started for process in (each, *each.children(recursive=True))]
    open_sockets = [socket for process in family for socket in process.net_connections("inet")]
    return sorted(socket.laddr.ip for socket in open_sockets if socket.status == psutil.CONN_LISTEN)


def main() -> None:
    os.environ["MLFLOW_PORT"] = sys.argv[1]
    command = [sys.executable, "-m", "flows.ui"]
    try:
        subprocess.run([*command, "start"], check=True, stdout=subprocess.DEVNULL)
        print(json.dumps(addresses()))
    finally:
        subprocess.run([*command, "stop"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
