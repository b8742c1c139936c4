"""What else the images show, by class and split: where it is uneven, a model may learn that instead of the evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from scipy.stats import chi2_contingency
from scipy.stats.contingency import association

from pipeline.data.preparing.split import SPLITS
from pipeline.report.audit_page.words import share
from pipeline.report.rendering import words

SURE = 0.01  # p-value below which classes differ by more than chance
OF_FILES = {"format": "file format", "mode": "kind of pixels"}  # traits that the file's header tells
BY_HEADER = "Read from the header of each file."
DETECTORS = {
    "burnt_in_marks": "Found by a program. Where the truth was known, its precision was at least 0.996 and its recall "
    "at least 0.968; data/README.md has the table, under Traits.",
    "acquisition_batch": "Found by a program. It told all 640 images of the real sample right; more in data/README.md, "
    "under Traits.",
}
UNKNOWN_DETECTOR = "Found by a program, whose precision and recall were not measured."


@dataclass(frozen=True)
class LevelRow:
    """Of one class, how many of its images have the level: in each split, then in all; each with how many there are."""

    class_name: str
    counts: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TraitTable:
    name: str  # as it is shown
    detector: str  # what is known of who tells the levels
    levels: Mapping[str, Sequence[LevelRow]]  # the most telling first
    association: float  # Cramér's V of level and class: 0 if they have nothing in common, 1 if one tells the other
    uneven: bool  # by more than chance
    summary: str  # of the level whose share differs most


def trait_tables(kept: pd.DataFrame, traits: Sequence[str], classes: tuple[str, ...]) -> list[TraitTable]:
    """Of each trait, and of what the files' headers tell where it varies."""
    names = [*traits, *(name for name in OF_FILES if kept[name].nunique() > 1)]
    return [_table(kept, name, classes) for name in names]


def _table(kept: pd.DataFrame, trait: str, classes: tuple[str, ...]) -> TraitTable:
    levels = {str(level): _rows(kept, trait, level, classes) for level in sorted(kept[trait].unique())}
    levels = dict(sorted(levels.items(), key=lambda level: _telling(level[1]), reverse=True))
    counts = pd.crosstab(kept["class"], kept[trait])
    varied = min(counts.shape) > 1
    return TraitTable(
        name=OF_FILES.get(trait, words(trait)),
        detector=BY_HEADER if trait in OF_FILES else DETECTORS.get(trait, UNKNOWN_DETECTOR),
        levels=levels,
        association=float(association(counts, method="cramer")) if varied else 0.0,
        uneven=varied and float(chi2_contingency(counts, correction=False).pvalue) < SURE,
        summary=_summary(levels),
    )


def _rows(kept: pd.DataFrame, trait: str, level: str, classes: tuple[str, ...]) -> list[LevelRow]:
    parts = [*(kept[kept["split"] == split] for split in SPLITS), kept]
    of_class = {name: [part.loc[part["class"] == name, trait] for part in parts] for name in classes}
    return [
        LevelRow(name, tuple((int((values == level).sum()), len(values)) for values in of_class[name]))
        for name in classes
    ]


def _summary(levels: Mapping[str, Sequence[LevelRow]]) -> str:
    """`marked: from 6 % of normal to 40 % of benign`, of the most telling level."""
    level, rows = next(iter(levels.items()))
    if len(levels) < 2:
        return f"{level} in all images"
    low, high = (choose(rows, key=_share) for choose in (min, max))
    return (
        f"{level}: from {share(*low.counts[-1])} of {low.class_name} to {share(*high.counts[-1])} of {high.class_name}"
    )


def _telling(rows: Sequence[LevelRow]) -> tuple[float, int]:
    """How far its shares of the classes are apart; of equals the rarer level tells more."""
    shares = [_share(row) for row in rows]
    return round(max(shares) - min(shares), 9), -sum(row.counts[-1][0] for row in rows)


def _share(row: LevelRow) -> float:
    having, images = row.counts[-1]
    return having / images if images else 0.0
