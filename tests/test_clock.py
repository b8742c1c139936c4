"""What is told of work in progress: how far it is, in its own words, and how long it will still take."""

import pickle

import pytest

from pipeline.clock import Account, Pace, percent


class Clock:
    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)

    def __call__(self) -> float:
        return self.seconds.pop(0)


def test_what_is_left_takes_as_long_as_what_was_done():
    pace = Pace(Clock(100.0, 130.0, 140.0))
    assert [pace.seconds_left(done, 100) for done in (0, 30, 80)] == [None, 70.0, 10.0]


def test_what_an_earlier_run_did_does_not_count_as_fast():
    pace = Pace(Clock(0.0, 10.0))
    assert [pace.seconds_left(done, 50) for done in (40, 45)] == [None, 10.0]


def test_other_work_has_a_pace_of_its_own():
    pace = Pace(Clock(0.0, 1.0, 2.0, 4.0))
    assert [pace.seconds_left(*told) for told in ((0, 10), (10, 10), (0, 8), (2, 8))] == [None, 0.0, None, 6.0]


def test_a_pace_survives_the_way_to_another_process():
    assert pickle.loads(pickle.dumps(Pace())) == Pace()


@pytest.mark.parametrize(
    ("account", "done", "total", "left", "words"),
    [
        (Account("image"), 120, 640, 40.0, "120 of 640 images, 40 s left"),
        (Account("image"), 1200, 64000, None, "1,200 of 64,000 images"),
        (Account("image"), 1, 1, 0.0, "1 of 1 image"),
        (Account(epochs=9), 112, 450, 80.0, "epoch 3 of 9, batch 12 of 50, 1 min 20 s left"),
        (Account(epochs=9), 150, 450, 80.0, "epoch 3 of 9, batch 50 of 50, 1 min 20 s left"),
        (Account(epochs=9), 0, 450, None, "epoch 1 of 9, batch 0 of 50"),
        (Account(epochs=9), 3, 9, 7500.0, "epoch 3 of 9, 2 h 5 min left"),
        (Account(), 1, 3, 5.0, "33 %, 5 s left"),
        (Account(), 7, 0, None, "0 %"),
    ],
)
def test_progress_is_told_in_the_words_of_the_work(account, done, total, left, words):
    assert account.told(done, total, left) == words


def test_percent_ends_at_100():
    assert (percent(1, 4), percent(5, 4), percent(5, 0)) == (25.0, 100.0, 0.0)
