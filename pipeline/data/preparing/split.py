"""Split images into train, validation and test: stratified by class, groups of near-duplicates kept together.

Groups are dealt out one at a time, the largest first, each to the split that is then fullest by the smallest share of
what it is due. With enough single images every split gets exactly its due, which k folds cannot promise.
"""

import hashlib
from collections.abc import Mapping, Sequence

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
    fractions: Mapping[str, float],
    seed: int,
) -> list[str]:
    """The split of each image; equal for equal arguments.

    Args:
        groups: images that share a number stay together.
        fractions: of each split that is taken from the images; train keeps the remainder.

    Raises:
        StudyError: a class has too few groups to be in every split.
    """
    names = (SPLITS[0], *fractions)
    groups = np.unique(groups, return_inverse=True)[1]
    _check_enough(labels, groups, classes, names)
    counts = np.zeros((groups.max() + 1, len(classes)), dtype=np.int64)
    np.add.at(counts, (groups, labels), 1)
    due = due_counts(counts.sum(axis=0), tuple(fractions.values()))
    splits = [names[split] for split in _deal(counts, due, np.random.default_rng(seed))[groups]]
    check_split(splits, labels, groups, classes, names)
    return splits


def due_counts(totals: Int64[np.ndarray, " c"], fractions: tuple[float, ...]) -> Int64[np.ndarray, "splits c"]:
    """Images due to train and to each further split in each class: its fraction, rounded, and at least one."""
    taken = [np.maximum(np.rint(fraction * totals), 1).astype(np.int64) for fraction in fractions]
    return np.stack([np.maximum(totals - sum(taken), 1), *taken])


def check_split(
    splits: Sequence[str],
    labels: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"],
    classes: Sequence[str],
    names: Sequence[str] = SPLITS,
) -> None:
    """Raises StudyError if a group is in two splits, or a class absent from one."""
    if len({*zip(groups.tolist(), splits, strict=True)}) > len(np.unique(groups)):
        raise StudyError("the split leaks: a group of near-duplicates stands on two sides; report this as a defect")
    present = {*zip(labels.tolist(), splits, strict=True)}
    for label, name in enumerate(classes):
        if absent := [split for split in names if (label, split) not in present]:
            raise StudyError(
                f"class {name}: none of its images can be in {', '.join(absent)}, since images that look alike or are "
                "of one patient stay together; add images of it"
            )


def _check_enough(
    labels: Int64[np.ndarray, " n"], groups: Int64[np.ndarray, " n"], classes: Sequence[str], names: Sequence[str]
) -> None:
    for label, name in enumerate(classes):
        _, sizes = np.unique(groups[labels == label], return_counts=True)
        if len(sizes) < len(names):
            raise StudyError(
                f"class {name}: {len(sizes)} different images left, near-duplicates and images of one patient counted "
                f"once; {', '.join(names)} need one each, so give at least {len(names)}. Its largest group holds "
                f"{sizes.max(initial=0)} images: if they are not one picture, lower the set's duplicate_distance"
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
