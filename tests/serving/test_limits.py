"""What a server refuses for its size or its time, and who calls a model in process may ask."""

import math
import time

import pytest

from pipeline.serving.limits import MAX_HEATMAP_ROWS, MAX_ROWS, allowed_methods, check_rows, deadline, until
from pipeline.serving.refusals import Refusal


@pytest.fixture
def in_a_server(monkeypatch):
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")


@pytest.mark.parametrize(("most", "heatmaps"), [(MAX_ROWS, False), (MAX_HEATMAP_ROWS, True)])
def test_a_server_answers_so_many_rows_and_not_one_more(most, heatmaps, in_a_server):
    check_rows(most, heatmaps)
    with pytest.raises(Refusal, match=rf"^{most + 1:,} rows.* are more than the {most:,} of a request; send them in"):
        check_rows(most + 1, heatmaps)


def test_a_server_does_not_run_methods_of_thousands_of_passes(in_a_server):
    assert allowed_methods(("gradcam", "rise", "legrad")) == ("gradcam", "legrad")


def test_in_process_neither_rows_nor_methods_nor_time_are_limited():
    check_rows(10**9, True)
    assert allowed_methods(("gradcam", "rise")) == ("gradcam", "rise")
    assert deadline() == math.inf


def test_the_deadline_is_that_of_mlflows_server(in_a_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1000000")
    assert deadline() > time.monotonic() + 999_000


def test_work_ends_at_the_deadline():
    assert list(until(math.inf, [1, 2])) == [1, 2]
    with pytest.raises(Refusal, match="takes longer than the server's time limit"):
        list(until(0.0, [1, 2]))
