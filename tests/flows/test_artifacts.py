"""What is shown of a run without asking a server: the rows of a table, and progress that is told to nobody."""

import pickle

import pytest

from flows.artifacts import by_name, progress_of, with_intervals
from flows.flow_runs import tags_of
from flows.monitor import monitor


def test_a_measure_and_its_bounds_are_one_entry():
    row = {"auc": 0.51234, "auc_low": 0.4, "auc_high": 0.6, "images": 9}
    assert with_intervals(row) == {"auc": "0.512 [0.400, 0.600]", "images": 9}


def test_rows_of_other_measures_have_all_columns():
    rows = by_name("method", {"gradcam": {"auc": 0.5}, "random": {"area": 0.1}})
    assert rows == [{"method": "gradcam", "auc": 0.5, "area": ""}, {"method": "random", "auc": "", "area": 0.1}]


def test_single_values_are_rows_too():
    assert by_name("metric", {"accuracy": 0.5}) == [{"metric": "accuracy", "value": 0.5}]


@pytest.mark.parametrize(
    ("stage", "told", "tags"),
    [
        ("report", {}, ["stage: report"]),
        ("fetch", {"dataset": "busi"}, ["stage: fetch", "dataset: busi"]),
        (
            "score",
            {"dataset": "busi", "model": "dino", "seed": None},
            ["stage: score", "dataset: busi", "model: dino", "cell: busi-dino"],
        ),
        (
            "score",
            {"dataset": "busi", "model": "dino", "seed": 1},
            ["stage: score", "dataset: busi", "model: dino", "seed: 1", "cell: busi-dino seed 1"],
        ),
    ],
)
def test_a_run_is_found_by_its_stage_and_its_cell(stage, told, tags):
    assert tags_of(stage, told) == tags


def test_progress_goes_on_after_the_way_to_another_process(monkeypatch):
    monkeypatch.setattr(monitor, "_on", False)
    progress = progress_of("score busi-dino", "image")
    progress(1, 10)
    there = pickle.loads(pickle.dumps(progress))
    there(2, 10)
    assert (there.what, there.pace.began_at, there.bar) == ("score busi-dino", 1, None)
