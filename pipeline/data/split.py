"""Split images into train, validation and test: stratified by class, groups of near-duplicates kept together.

Groups are dealt out one at a time, the largest first, each to the split that is then fullest by the smallest share of
what it is due. With enough single images every split gets exactly its due, which k folds cannot promise.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

from pipeline.errors import StudyError

SPLITS = ("train", "validation", "test")


def split_sha256(index: pd.DataFrame, split: str) -> str:
    """Of which images a split holds and how they are labelled: scores on unlike test splits are no comparison."""
    held = index.loc[index["split"] == split, ["sha256", "label"]]
    return hashlib.sha256(held.to_csv(index=False, header=False, lineterminator="\n").encode()).hexdigest()


def split_groups(
    labels: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    classes: Sequence[str],
    validation_fraction: float,
    test_fraction: float,
    seed: int,
) -> Int64[np.ndarray, " n"]:
    """The split of each image as its place in SPLITS; equal for equal arguments.

    Args:
        groups: numbers from 0 without gaps; images that share one stay together.

    Raises:
        StudyError: a class has too few groups to be in every split.
    """
    _check_enough(labels, groups, classes)
    counts = np.zeros((groups.max() + 1, len(classes)), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    due = due_counts(counts.sum(axis=0), (1 - validation_fraction - test_fraction, validation_fraction, test_fraction))
    splits = _deal(counts, due, np.random.default_rng(seed))[groups]
    check_split(splits, labels, groups, classes)
    return splits


def due_counts(totals: Int64[np.ndarray, " c"], fractions: tuple[float, float, float]) -> Int64[np.ndarray, "splits c"]:
    """Images due to each split in each class: the fractions, rounded, and at least one; train takes the remainder."""
    _, validation, test = (np.maximum(np.rint(fraction * totals), 1).astype(np.int64) for fraction in fractions)
    return np.stack([np.maximum(totals - validation - test, 1), validation, test])


def check_split(
    splits: Int64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    classes: Sequence[str],
) -> None:
    """Raises StudyError if a group is in two splits, or a class absent from one."""
    pairs = np.unique(np.stack([groups, splits]), axis=1)
    if len(np.unique(pairs[0])) < pairs.shape[1]:
        raise StudyError("the split leaks: a group of near-duplicates stands on two sides; report this as a defect")
    for label, name in enumerate(classes):
        if absent := [split for place, split in enumerate(SPLITS) if not np.any(splits[labels == label] == place)]:
            raise StudyError(f"class {name}: its near-duplicates leave none for {', '.join(absent)}; add images of it")


def _check_enough(labels: Int64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"], classes: Sequence[str]) -> None:
    for label, name in enumerate(classes):
        if (found := len(np.unique(groups[labels == label]))) < len(SPLITS):
            raise StudyError(
                f"class {name}: {found} different images left, near-duplicates counted once; train, validation and "
                f"test need one each, so give at least {len(SPLITS)}"
            )


def _deal(
    counts: Int64[np.ndarray, "groups c"], due: Int64[np.ndarray, "splits c"], rng: np.random.Generator
) -> Int64[np.ndarray, " groups"]:
    shuffled = rng.permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]
    splits, have, left = np.zeros(len(counts), dtype=np.int64), np.zeros_like(due), (counts > 0).sum(axis=0)
    for group in order:
        splits[group] = _choose(counts[group], have, due, left)
        have[splits[group]] += counts[group]
        left -= counts[group] > 0
    return splits


def _choose(
    count: Int64[np.ndarray, " c"],
    have: Int64[np.ndarray, "splits c"],
    due: Int64[np.ndarray, "splits c"],
    left: Int64[np.ndarray, " c"],
) -> int:
    """The split for a group with `count` images of each class; `left` counts the groups of each class still to come."""
    empty = (have == 0) & (count > 0)
    urgent = (empty & (left <= (have == 0).sum(axis=0))).any(axis=1)
    share = (count * (have + count) / due).sum(axis=1)
    return int(np.argmin(share + np.where(urgent | ~urgent.any(), 0, np.inf)))
