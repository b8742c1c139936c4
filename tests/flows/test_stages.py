"""Stages run in order, side by side where there is room, and a failure stops only what waits for it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from flows.room import Room, default_workers, visible_gpus
from flows.stages import STOPPED, Running, reproduce, run_stages
from pipeline.params import StudyParams

ROOT = Path(__file__).parents[2]


class Ran:
    """Runs stages by noting them; one called `bad` fails."""

    def __init__(self):
        self.names, self.environments = [], []

    def __call__(self, name, environment):
        self.names.append(name)
        self.environments.append(environment)
        return int(name == "bad")


@pytest.fixture
def ran():
    return Ran()


def test_a_stage_runs_after_all_it_waits_for(ran):
    assert run_stages({"score": {"explain"}, "explain": {"fit"}, "fit": set()}, Room(2), ran) == []
    assert ran.names == ["fit", "explain", "score"]


def test_what_waits_for_a_failed_stage_is_not_run_but_all_else_is(ran):
    waits = {"bad": set(), "after bad": {"bad"}, "report": {"after bad", "good"}, "good": set(), "after good": {"good"}}
    assert run_stages(waits, Room(1), ran) == ["bad"]
    assert sorted(ran.names) == ["after good", "bad", "good"]


def test_stages_that_do_not_wait_for_each_other_run_at_the_same_time():
    both_here = threading.Barrier(2, timeout=20)  # breaks, and fails the test, if they run one after the other
    assert run_stages({"a": set(), "b": set()}, Room(2), lambda name, environment: both_here.wait() * 0) == []


def test_nothing_stale_is_nothing_to_run(ran):
    assert run_stages({}, Room(2), ran) == []
    assert ran.names == []


def test_each_computing_stage_has_a_gpu_for_itself():
    room = Room(8, gpus=("0", "3"))
    assert room.enter("finetune@busi-vit") == {"CUDA_VISIBLE_DEVICES": "0"}
    assert room.enter("score_seed@busi-vit-1") == {"CUDA_VISIBLE_DEVICES": "3"}
    assert room.enter("explain@busi-deit") is None
    assert room.enter("preprocess@pbc") == {}
    room.leave("score_seed@busi-vit-1")
    assert room.enter("explain@busi-deit") == {"CUDA_VISIBLE_DEVICES": "3"}


def test_a_fine_tuning_in_several_processes_waits_for_a_gpu_for_each():
    room = Room(8, gpus=("0", "1", "2"), gpus_of_finetuning=2)
    assert room.enter("explain@busi-deit") == {"CUDA_VISIBLE_DEVICES": "0"}
    assert room.enter("finetune@busi-vit") == {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert room.enter("finetune@busi-swin") is None
    room.leave("explain@busi-deit")
    assert room.enter("finetune_seed@busi-vit-1") is None
    room.leave("finetune@busi-vit")
    assert room.enter("finetune_seed@busi-vit-1") == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_a_fine_tuning_that_wants_more_gpus_than_there_are_gets_all():
    assert Room(8, gpus=("0", "1"), gpus_of_finetuning=4).enter("finetune@busi-vit") == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_a_study_on_two_gpus_never_has_two_stages_on_one():
    inside, lock, met = set(), threading.Lock(), []

    def reproduce(name, environment):
        gpu = environment["CUDA_VISIBLE_DEVICES"]
        with lock:
            met.append(gpu in inside)
            inside.add(gpu)
        time.sleep(0.01)
        with lock:
            inside.discard(gpu)
        return 0

    assert run_stages({f"finetune@{n}": set() for n in range(20)}, Room(8, gpus=("0", "1")), reproduce) == []
    assert len(met) == 20
    assert not any(met)


def test_stages_that_took_too_much_memory_together_take_turns():
    peaks = {"finetune-busi-vit": 600.0, "finetune-busi-swin": 700.0, "explain-busi-vit": 300.0}
    room = Room(8, memory_mib=1000, peaks_mib=peaks)
    assert room.enter("finetune@busi-swin") == {}
    assert room.enter("finetune@busi-vit") is None
    assert room.enter("explain@busi-vit") == {}  # 1000 in all
    room.leave("explain@busi-vit")
    assert room.enter("finetune_seed@busi-vit-1") is None  # never ran: as large as the largest of its kind, 700
    room.leave("finetune@busi-swin")
    assert room.enter("finetune_seed@busi-vit-1") == {}


def test_a_stage_that_is_alone_has_room_whatever_it_takes():
    room = Room(8, memory_mib=100, peaks_mib={"finetune-busi-vit": 600.0})
    assert room.enter("finetune@busi-vit") == {}


def test_default_workers_share_the_cores_and_the_gpus(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8))
    given = {"datasets": ["a"], "models": ["b"], "seed": 0, "seeds": []}
    workers = [default_workers(StudyParams(threads=n, device="auto", **given), 0) for n in (1, 3, 8, 16)]
    assert workers == [8, 2, 1, 1]
    assert default_workers(StudyParams(threads=1, device="auto", **given), 4) == 4
    assert default_workers(StudyParams(threads=1, device="cuda:1", **given), 0) == 1


@pytest.mark.parametrize(("mask", "gpus"), [("", []), ("-1", []), ("2", ["2"]), ("0,GPU-5e,3", ["0", "GPU-5e", "3"])])
def test_gpus_that_are_hidden_are_none_of_ours(mask, gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", mask)
    assert visible_gpus() == gpus


RUN = "from flows.room import Room; from flows.stages import run_stages; run_stages({'long': set()}, Room(1))"


@pytest.mark.slow
def test_ctrl_c_ends_the_stages_and_all_that_they_started(tmp_path):
    (tmp_path / "dvc.yaml").write_text("stages: {long: {cmd: sleep 300; true}}")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    study = psutil.Popen([sys.executable, "-c", RUN], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    while len(family := study.children(recursive=True)) < 3:  # DVC, its shell, and what that started
        time.sleep(0.1)
        assert study.poll() is None
    study.send_signal(signal.SIGINT)
    assert study.wait(60) != 0
    assert psutil.wait_procs(family, timeout=10)[1] == []


def test_no_stage_begins_once_all_are_told_to_end(monkeypatch):
    running = Running()
    running.stop()
    monkeypatch.setattr("flows.stages._running", running)
    assert reproduce("finetune@busi-vit", {}) == STOPPED
