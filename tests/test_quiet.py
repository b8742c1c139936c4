"""Nothing phones home: importing the tools of the study looks up no host."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

PROBE = """
import socket, sys
asked = []
socket.getaddrinfo = lambda host, *rest, **kw: (asked.append(host), (_ for _ in ()).throw(OSError("no network")))[1]
import pipeline, albumentations, mlflow, prefect, torch
import time; time.sleep(1)
print("asked", sorted({str(host) for host in asked} - {"localhost", "127.0.0.1"}))
"""


def test_importing_the_tools_looks_up_no_host(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}  # CI unset: it mutes tools
    result = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=True)
    assert "asked []" in result.stdout, result.stdout
