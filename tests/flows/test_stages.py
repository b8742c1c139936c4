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

from flows.room import Room, default_workers, free_memory_mib, visible_gpus
from flows.stages import NOT_BEGUN, Running, reproduce, run_stages
from pipeline.params import load_params

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
    room = Room(8, gpus=("0", "1", "2"), processes_of_finetuning=2)
    assert room.enter("explain@busi-deit") == {"CUDA_VISIBLE_DEVICES": "0"}
    assert room.enter("finetune@busi-vit") == {"CUDA_VISIBLE_DEVICES": "1,2"}
    assert room.enter("finetune@busi-swin") is None
    room.leave("explain@busi-deit")
    assert room.enter("finetune_seed@busi-vit-1") is None
    room.leave("finetune@busi-vit")
    assert room.enter("finetune_seed@busi-vit-1") == {"CUDA_VISIBLE_DEVICES": "0,1"}


def test_a_fine_tuning_that_wants_more_gpus_than_there_are_gets_all():
    room = Room(8, gpus=("0", "1"), processes_of_finetuning=4)
    assert room.enter("finetune@busi-vit") == {"CUDA_VISIBLE_DEVICES": "0,1"}


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


def test_processes_of_one_fine_tuning_take_memory_each():
    room = Room(8, memory_mib=1000, peaks_mib={"finetune-busi-vit": 400.0}, processes_of_finetuning=2)
    assert room.enter("finetune@busi-vit") == {}
    assert room.enter("finetune@busi-vit") is None


@pytest.mark.parametrize(
    ("threads", "processes", "device", "gpus", "workers"),
    [
        (1, 1, "auto", 0, 8),
        (3, 1, "auto", 0, 2),
        (16, 1, "cpu", 0, 1),
        (2, 2, "cpu", 0, 2),
        (1, 1, "auto", 4, 4),
        (1, 1, "cuda:1", 0, 1),
    ],
)
def test_default_workers_share_the_cores_and_the_gpus(threads, processes, device, gpus, workers, monkeypatch):
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    params = load_params(ROOT / "params.yaml")
    study = params.study.model_copy(update={"threads": threads, "device": device})
    finetune = params.finetune.model_copy(update={"processes": processes})
    assert default_workers(params.model_copy(update={"study": study, "finetune": finetune}), gpus) == workers


def test_a_container_has_no_more_memory_than_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.room.CGROUP", tmp_path)
    whole = pytest.approx(psutil.virtual_memory().available / 2**20, rel=0.2)
    assert free_memory_mib() == whole
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory_mib() == whole
    for name, told in {
        "max": 100 * 2**20,
        "current": 50 * 2**20,
        "stat": f"anon 7\ninactive_file {10 * 2**20}",
    }.items():
        (tmp_path / f"memory.{name}").write_text(f"{told}\n")
    assert free_memory_mib() == 60


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
    assert reproduce("finetune@busi-vit", {}) == NOT_BEGUN
