"""What a stage took, in time and memory, is kept when it ended well, and only then."""

import pytest

from flows.durations import read_durations, read_peaks, timed


def test_the_last_time_of_each_stage_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_durations() == {}
    for stage in ("finetune busi-dino", "report", "report"):
        with timed(stage):
            pass
    assert list(read_durations()) == ["finetune busi-dino", "report"]
    assert all(seconds >= 0 for seconds in read_durations().values())
    assert read_peaks()["finetune-busi-dino"] > 10  # MiB


def test_a_stage_that_failed_has_no_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError), timed("report"):
        raise RuntimeError("stop")
    assert read_durations() == {}
