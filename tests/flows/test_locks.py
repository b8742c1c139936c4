"""One process at a time does a stage; the next waits and says for whom; none outlives the DVC that started it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.locks import STUDY_PROCESS, alone
from flows.processes import process_of

ROOT = Path(__file__).parents[2]

STAGE = """
import logging, sys, time

from flows.command import run_main
from flows.locks import alone, ended_with_starter

def work():
    with ended_with_starter(), alone("finetune-busi-vit"):
        print("begun", flush=True)
        time.sleep(float(sys.argv[1]))

run_main(work)
"""


STUCK = """
import time

from flows.command import run_main

def work():
    try:
        print("begun", flush=True)
        time.sleep(300)
    finally:
        print("cleaning up", flush=True)
        time.sleep(300)

run_main(work)
"""


def start(seconds, *, folder, under_dvc=False, code=STAGE, **variables):
    """A stage that takes so long; the process that was started, which is the stage or the DVC above it."""
    command = [sys.executable, "-c", code, str(seconds)]
    if under_dvc:
        command = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[2:])", "dvc", *command]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def begun(process):
    return process.stdout.readline() == "begun\n"


@pytest.fixture(autouse=True)
def _checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)


def test_a_second_process_waits_and_says_for_whom(tmp_path):
    first = start(300, folder=tmp_path)
    assert begun(first)
    second = start(0, folder=tmp_path)
    assert second.stderr.readline() == f"finetune-busi-vit: process {first.pid} is at it; waiting for its end\n"
    first.kill()
    assert begun(second)
    assert second.wait() == 0
    first.communicate()


def test_a_stage_ends_in_order_with_the_dvc_that_started_it(tmp_path):
    dvc = start(300, folder=tmp_path, under_dvc=True)
    assert begun(dvc)
    (stage,) = psutil.Process(dvc.pid).children()
    dvc.kill()
    assert psutil.wait_procs([stage], timeout=20)[1] == []
    assert dvc.communicate()[1].splitlines() == [
        "what started this stage is gone; ending too",
        "stopped; run again to go on",
    ]
    with alone("finetune-busi-vit"):
        pass


def test_a_stage_ends_with_the_study_that_it_is_of_whatever_that_is_called(tmp_path):
    study = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stage = start(300, folder=tmp_path, **{STUDY_PROCESS: process_of(study.pid).model_dump_json()})
    assert begun(stage)
    study.communicate(b"\n")
    assert stage.wait(20) == 128 + signal.SIGTERM
    stage.communicate()


def test_the_other_processes_of_one_training_need_no_lock(monkeypatch):
    with alone("finetune-busi-vit"):
        monkeypatch.setenv("RANK", "1")
        with alone("finetune-busi-vit"):
            pass


def test_a_second_signal_ends_at_once(tmp_path):
    stuck = start(0, folder=tmp_path, code=STUCK)
    assert begun(stuck)
    stuck.send_signal(signal.SIGTERM)
    assert stuck.stdout.readline() == "cleaning up\n"
    stuck.send_signal(signal.SIGTERM)
    assert stuck.wait(20) == 143
    stuck.communicate()
