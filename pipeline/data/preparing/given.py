"""Splits that a set's table gives: kept as they are, but that nothing is trained on which stands in validation or test.

A published split can leak: where images that belong together stand in two splits, those nearer to training are left
out, so that the test split stays the published one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from pipeline.data.preparing.audit import split_rank
from pipeline.data.preparing.reading import Found
from pipeline.data.preparing.split import SPLITS
from pipeline.errors import StudyError
from pipeline.records import Dropped
from pipeline.spec import DatasetSpec


def has_given_splits(found: Sequence[Found]) -> bool:
    """Whether the set's table says for its images in which split they are."""
    return any(one.image.split for one in found)


def leaking(found: Sequence[Found], groups: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Images whose group has a member in a split farther from training."""
    ranks = np.array([split_rank(one) for one in found])
    farthest = np.zeros(groups.max() + 1, dtype=np.int64)
    np.maximum.at(farthest, groups, ranks)
    return ranks < farthest[groups]


def as_leaking(found: Sequence[Found], groups: Int64[np.ndarray, " n"]) -> tuple[Dropped, ...]:
    """The images that are left out, each with one that it belongs to."""
    judged = {int(group): one for one, group in sorted(zip(found, groups, strict=True), key=lambda p: split_rank(p[0]))}
    return tuple(
        Dropped(file=one.image.file, reason=_reason(one, judged[int(group)]))
        for one, group, leaks in zip(found, groups, leaking(found, groups), strict=True)
        if leaks
    )


def refuse_incomplete(found: Sequence[Found], spec: DatasetSpec) -> None:
    """Raises StudyError if a class lacks a split that nobody can make up for it."""
    needed = (SPLITS[0], SPLITS[2]) if lacks_validation(found) else SPLITS
    held = {(one.image.class_name, one.image.split) for one in found}
    for split in needed:
        if absent := [name for name in spec.classes if (name, split) not in held]:
            raise StudyError(
                f"{spec.layout.table}: no image of {', '.join(absent)} that is left is given to {split}; add some, or "
                "drop the column split"
            )


def lacks_validation(found: Sequence[Found]) -> bool:
    return not any(one.image.split == SPLITS[1] for one in found)


def _reason(one: Found, other: Found) -> str:
    return (
        f"given to {one.image.split}, but it belongs together with {other.image.file}, which is given to "
        f"{other.image.split}"
    )
