"""Sizes, formats, kinds of pixels and bytes of the image files that were kept."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.report.audit_page.words import in_bytes

SHOWN = 10  # of the most frequent


@dataclass(frozen=True)
class Value:
    """A value of a property, with the images of each class that have it."""

    name: str
    images: tuple[int, ...]


@dataclass(frozen=True)
class Tally:
    """How often each value of a property occurs, the most frequent first."""

    title: str
    values: Sequence[Value]
    more: int  # values that are not shown
    rest: Value  # their images together


def tallies(kept: pd.DataFrame, classes: tuple[str, ...]) -> list[Tally]:
    sizes = kept["width_px"].astype(int).astype(str) + " × " + kept["height_px"].astype(int).astype(str)
    properties = {"size in px": sizes, "format": kept["format"], "kind of pixels": kept["mode"]}
    return [_tally(title, pd.crosstab(each, kept["class"]), classes) for title, each in properties.items()]


def byte_facts(kept: pd.DataFrame) -> dict[str, str]:
    size = kept["bytes"]
    facts = {"smallest": size.min(), "median": size.median(), "largest": size.max(), "together": size.sum()}
    return {name: in_bytes(float(value)) for name, value in facts.items()}


def _tally(title: str, counts: pd.DataFrame, classes: tuple[str, ...]) -> Tally:
    """Equally frequent values in the order of the alphabet."""
    counts = counts.reindex(columns=classes, fill_value=0)
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    shown = [Value(str(name), tuple(row)) for name, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)]
    rest = tuple(counts.iloc[SHOWN:].sum().tolist())
    return Tally(title, shown[:SHOWN], len(shown[SHOWN:]), Value("more", rest))
