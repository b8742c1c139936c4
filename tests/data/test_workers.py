"""A loop over processes: order kept, one that is killed told in a line."""

import os
import signal

import pytest

from pipeline.data.workers import mapper
from pipeline.errors import StudyError


def double(number: int) -> int:
    return 2 * number


def end_itself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("processes", [1, 2])
def test_results_keep_their_order(processes: int) -> None:
    with mapper(processes) as spread:
        assert list(spread(double, range(50))) == list(range(0, 100, 2))


def test_a_process_that_the_system_ends_is_told_in_a_line() -> None:
    with pytest.raises(StudyError, match=r"one of 2 processes was ended.*lower study\.threads"), mapper(2) as spread:
        list(spread(end_itself, range(3)))
