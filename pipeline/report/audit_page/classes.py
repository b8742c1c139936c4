"""How many images of each class are in each split."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.data.preparing.split import SPLITS


@dataclass(frozen=True)
class ClassCount:
    """A class with its images in each split, in the order of SPLITS."""

    name: str
    splits: tuple[int, ...]

    @property
    def images(self) -> int:
        return sum(self.splits)


def class_counts(kept: pd.DataFrame, classes: tuple[str, ...]) -> list[ClassCount]:
    table = pd.crosstab(kept["class"], kept["split"]).reindex(index=classes, columns=SPLITS, fill_value=0)
    return [ClassCount(str(name), tuple(row)) for name, row in zip(table.index, table.to_numpy().tolist(), strict=True)]


def absent(counts: Sequence[ClassCount]) -> list[str]:
    """Which class lacks images in which split, in words."""
    return [
        f"{split} lacks {count.name}"
        for count in counts
        for split, images in zip(SPLITS, count.splits, strict=True)
        if not images
    ]


def totals(counts: Sequence[ClassCount]) -> list[int]:
    """Images of all classes in each split."""
    return [sum(images) for images in zip(*(count.splits for count in counts), strict=True)]
