"""Stages run in order, side by side, and a failure stops only what waits for it."""

import threading

import pytest

from flows import stages
from pipeline.params import StudyParams


@pytest.fixture
def ran(monkeypatch):
    """Stands in for DVC: notes each stage's start; a stage called `bad` fails."""
    names = []

    def reproduce(name):
        names.append(name)
        return int(name == "bad")

    monkeypatch.setattr(stages, "reproduce", reproduce)
    return names


def test_a_stage_runs_after_all_it_waits_for(ran):
    assert stages.run_stages({"score": {"explain"}, "explain": {"fit"}, "fit": set()}, workers=2) == []
    assert ran == ["fit", "explain", "score"]


def test_what_waits_for_a_failed_stage_is_not_run_but_all_else_is(ran):
    waits = {"bad": set(), "after bad": {"bad"}, "report": {"after bad", "good"}, "good": set(), "after good": {"good"}}
    assert stages.run_stages(waits, workers=1) == ["bad"]
    assert sorted(ran) == ["after good", "bad", "good"]


def test_stages_that_do_not_wait_for_each_other_run_at_the_same_time(monkeypatch):
    both_here = threading.Barrier(2, timeout=20)  # breaks, and fails the test, if they run one after the other
    monkeypatch.setattr(stages, "reproduce", lambda name: both_here.wait() * 0)
    assert stages.run_stages({"a": set(), "b": set()}, workers=2) == []


def test_nothing_stale_is_nothing_to_run(ran):
    assert stages.run_stages({}, workers=2) == []
    assert ran == []


def test_default_workers_share_the_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    given = {"datasets": ["a"], "models": ["b"], "seed": 0, "seeds": [], "device": "cpu"}
    workers = [stages.default_workers(StudyParams(threads=threads, **given)) for threads in (1, 3, 8, 16)]
    assert workers == [8, 2, 1, 1]
