"""Work in shards: done once, gone on with after a kill, made anew where anything that decides it changed."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.shards import IN_MEMORY, Arrays, Scratch, Shards, adder, one_by_one, slices

CALLS = [(number,) for number in range(4)]
made: list[int] = []


def square(number: int) -> Arrays:
    made.append(number)
    return {"of/square": np.array([number**2])}


def fail_at_two(number: int) -> Arrays:
    if number == 2:
        raise KeyboardInterrupt
    return square(number)


@pytest.fixture(autouse=True)
def _nothing_made() -> None:
    made.clear()


def squares(scratch: Scratch, key: str = "a" * 64, function=square) -> list[int]:
    found = Shards(scratch, key).run("square", function, CALLS, lambda number: None)
    return [int(arrays["of/square"][0]) for arrays in found]


def killed(scratch: Scratch) -> None:
    with pytest.raises(KeyboardInterrupt):
        squares(scratch, function=fail_at_two)
    made.clear()


def shard_file(scratch: Scratch, number: int) -> Path:
    assert scratch.folder
    return scratch.folder / ("a" * 16) / f"square-{number}.npz"


def test_results_come_in_the_order_of_the_calls(tmp_path):
    backwards = lambda shards: (number for number in reversed(list(one_by_one(shards))))  # noqa: E731
    assert squares(Scratch(tmp_path / "work", backwards)) == [0, 1, 4, 9]


def test_in_memory_nothing_is_kept():
    assert squares(IN_MEMORY) == squares(IN_MEMORY) == [0, 1, 4, 9]
    assert made == [0, 1, 2, 3] * 2


def test_a_killed_run_goes_on_from_its_finished_shards(tmp_path):
    scratch = Scratch(tmp_path / "work")
    killed(scratch)
    assert squares(scratch) == [0, 1, 4, 9]
    assert made == [2, 3]


def test_another_key_makes_everything_anew_and_clears_the_old(tmp_path):
    scratch = Scratch(tmp_path / "work")
    killed(scratch)
    assert squares(scratch, key="b" * 64) == [0, 1, 4, 9]
    assert made == [0, 1, 2, 3]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["b" * 16]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", None])
def test_a_damaged_shard_is_made_anew(tmp_path, content):
    scratch = Scratch(tmp_path / "work")
    squares(scratch)
    path = shard_file(scratch, 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    made.clear()
    assert squares(scratch) == [0, 1, 4, 9]
    assert made == [1]


def test_a_shard_that_went_lost_on_the_way_is_made_here(tmp_path):
    assert squares(Scratch(tmp_path / "work", lambda shards: iter(range(len(shards))))) == [0, 1, 4, 9]
    assert made == [0, 1, 2, 3]


def test_finished_shards_count_as_done(tmp_path):
    scratch, told = Scratch(tmp_path / "work"), []
    killed(scratch)
    Shards(scratch, "a" * 64).run("square", square, CALLS, told.append)
    assert told == [0, 1, 2, 3]


def test_nothing_is_left_when_the_whole_is_written(tmp_path):
    scratch = Scratch(tmp_path / "work")
    squares(scratch)
    Shards(scratch, "a" * 64).clear()
    assert list(tmp_path.iterdir()) == []


def test_a_half_written_shard_is_no_shard(tmp_path):
    scratch = Scratch(tmp_path / "work")
    killed(scratch)
    assert sorted(path.name for path in shard_file(scratch, 0).parent.iterdir()) == ["square-0.npz", "square-1.npz"]


def test_parts_are_whole_batches():
    assert slices(100, 20, 32) == [slice(first, first + 20) for first in range(0, 100, 20)]
    assert slices(70, 8, 32) == [slice(0, 32), slice(32, 64), slice(64, 70)]
    assert slices(70, 50, 32) == [slice(0, 50), slice(50, 70)]
    assert slices(0, 8, 32) == []


def test_what_is_done_adds_up():
    told = []
    done = adder(lambda so_far, total: told.append((so_far, total)), 5, "image")
    done(2)
    done(3)
    assert told == [(2, 5), (5, 5)]
