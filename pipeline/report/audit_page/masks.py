"""What the masks of a set cover, and which images are without one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.data.preparing.audit import HUGE_MASK
from pipeline.spec import DatasetSpec

# Upper ends of the bars, in per cent of the image; lesions cover a few, so equal steps would put all into one bar.
ENDS = (0, 1, 2, 5, 10, 20, 40, round(100 * HUGE_MASK), 100)


@dataclass(frozen=True)
class Coverage:
    """How much of its image a mask covers, in one class."""

    class_name: str
    bars: tuple[int, ...]  # masks up to each of ENDS
    median: float  # of the masks that are not empty


@dataclass(frozen=True)
class MaskCounts:
    """Of the images kept. The last three are not what an image's class makes one expect."""

    outlined: int
    empty_by_right: int
    without: int
    refused: int  # their images count as having none
    empty: int
    huge: int
    unexpected: int  # outlining something in a class without evidence

    @property
    def odd(self) -> int:
        return self.empty + self.huge + self.unexpected


def mask_counts(kept: pd.DataFrame, spec: DatasetSpec) -> MaskCounts:
    covered, clear = kept["mask_fraction"], kept["class"].isin(spec.without_evidence)
    conditions = {
        "outlined": covered > 0,
        "empty_by_right": (covered == 0) & clear,
        "without": kept["masks"] == 0,
        "refused": (kept["masks"] > 0) & covered.isna(),
        "empty": (covered == 0) & ~clear,
        "huge": (covered > HUGE_MASK) & ~clear,
        "unexpected": (covered > 0) & clear,
    }
    return MaskCounts(**{name: int(condition.sum()) for name, condition in conditions.items()})


def coverages(kept: pd.DataFrame, classes: tuple[str, ...]) -> list[Coverage]:
    """Of each class with a mask that is not empty."""
    fractions = [(name, kept.loc[kept["class"] == name, "mask_fraction"].dropna()) for name in classes]
    return [_coverage(name, each) for name, each in fractions if each.any()]


def _coverage(name: str, fractions: pd.Series) -> Coverage:
    places = np.searchsorted(ENDS, 100 * fractions.to_numpy(), side="left")
    return Coverage(
        class_name=name,
        bars=tuple(np.bincount(places, minlength=len(ENDS)).tolist()),
        median=float(fractions[fractions > 0].median()),
    )
