"""The split: what it promises for any groups and labels, and small worlds worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.preparing.split import SPLITS, check_split, due_counts, split_groups
from pipeline.errors import StudyError

CLASSES = ("a", "b", "c")


def tally(splits: np.ndarray, labels: np.ndarray, classes: int) -> list[list[int]]:
    return [[int(np.sum((splits == split) & (labels == label))) for label in range(classes)] for split in SPLITS]


def split(
    labels: list[int] | np.ndarray,
    groups: list[int] | np.ndarray,
    fractions: tuple[float, float] = (0.25, 0.25),
    seed: int = 0,
) -> np.ndarray:
    taken = dict(zip(SPLITS[1:], fractions, strict=True))
    return np.array(split_groups(np.array(labels), np.array(groups), CLASSES[: max(labels) + 1], taken, seed))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=20, max_size=200), st.integers(0, 5))
def test_a_group_never_crosses_a_split_and_no_class_is_absent(pairs: list[tuple[int, int]], seed: int) -> None:
    labels = np.array([label for label, _ in pairs])
    groups = np.unique([group for _, group in pairs], return_inverse=True)[1]
    try:
        splits = np.array(split_groups(labels, groups, CLASSES, {"validation": 0.15, "test": 0.2}, seed))
    except StudyError:
        return  # too few groups of a class, or all of them entangled with others
    assert all(len(np.unique(splits[groups == group])) == 1 for group in groups)
    assert all(set(splits[labels == label]) == set(SPLITS) for label in range(3))


@given(st.lists(st.integers(3, 60), min_size=3, max_size=3), st.integers(0, 5))
def test_single_images_are_split_exactly_as_due(totals: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(3), totals)
    splits = split(labels, np.arange(len(labels)), (0.15, 0.2), seed)
    assert tally(splits, labels, 3) == due_counts(np.array(totals), (0.15, 0.2)).tolist()


def test_fractions_of_the_embedded_study() -> None:
    labels = [0] * 100 + [1] * 40
    assert tally(split(labels, list(range(140)), (0.15, 0.2)), np.array(labels), 2) == [[65, 26], [15, 6], [20, 8]]


def test_a_few_large_groups_leave_the_fractions_exact() -> None:
    labels, groups = [0] * 20, [0] * 4 + [1] * 3 + list(range(2, 15))
    assert [sum(counts) for counts in tally(split(labels, groups), np.array(labels), 1)] == [10, 5, 5]


def test_large_groups_are_not_kept_for_training() -> None:
    labels, groups = np.zeros(400, dtype=np.int64), np.repeat(np.arange(100), 4)
    assert [sum(counts) for counts in tally(split(labels, groups), labels, 1)] == [200, 100, 100]


def test_the_last_groups_of_a_class_go_where_it_is_absent() -> None:
    labels, groups = [0] * 11, [0] * 5 + [1] * 5 + [2]
    assert sorted(split(labels, groups, (0.15, 0.2))[[0, 5, 10]].tolist()) == sorted(SPLITS)


def test_equal_seeds_split_alike_and_others_differently() -> None:
    labels, groups = [0, 1] * 20, list(range(40))
    assert (split(labels, groups, seed=3) == split(labels, groups, seed=3)).all()
    assert (split(labels, groups, seed=3) != split(labels, groups, seed=4)).any()


def test_too_few_groups_of_a_class_are_refused_with_the_number_needed() -> None:
    message = r"class b: 2 different images left.*at least 3.*largest group holds 2 images.*lower.*duplicate_distance"
    with pytest.raises(StudyError, match=message):
        split([0] * 5 + [1] * 4, [0, 1, 2, 3, 4, 5, 5, 6, 6])


def test_a_leak_is_refused_however_it_came_about() -> None:
    with pytest.raises(StudyError, match="leaks"):
        check_split(
            ["train", "validation", "test", "test"], np.zeros(4, dtype=np.int64), np.array([0, 0, 1, 2]), ("a",)
        )


def test_a_class_absent_from_a_split_is_refused() -> None:
    with pytest.raises(StudyError, match=f"class a.*{SPLITS[2]}"):
        check_split(["train", "validation", "train"], np.zeros(3, dtype=np.int64), np.array([0, 1, 2]), ("a",))


def test_a_validation_split_alone_can_be_taken() -> None:
    splits = split_groups(np.zeros(8, dtype=np.int64), np.arange(5, 13), ("a",), {"validation": 0.25}, 0)
    assert sorted(splits) == ["train"] * 6 + ["validation"] * 2
