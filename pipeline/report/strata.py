"""Scores by strata: each class, right and wrong answers, the size of the finding, and the traits of the images.

A misclassified image counts twice, never in one mean: explained for the class it was taken for, and for its true one.
"""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from pipeline.report.cells import Cell
from pipeline.report.comparisons import MEASURES, predicted_only
from pipeline.report.evidence import CELL, ENDS
from pipeline.statistics import mean_interval, share_interval

ANSWERS = {
    "right": ("predicted", True),
    "wrong, for the class predicted": ("predicted", False),
    "wrong, for the true class": ("true", False),
}
SIZES = ("small", "medium", "large")
COLUMNS = ("", *ENDS)


def strata_table(evidence: pd.DataFrame, traits: Sequence[str], seed: int, resamples: int) -> pd.DataFrame:
    """Means of each cell's methods in each stratum with 95 % intervals; `chance` is the pointing game's.

    Of several fine-tuning seeds the first is taken, the cell that is registered: which answers are wrong differs.
    """
    first = evidence[evidence["is_method"] & (evidence["seed"] == evidence["seed"].iloc[0])]
    rows = [
        {**dict(zip(("dataset", "model", "method"), names, strict=True)), "stratum": stratum, "level": level}
        | {"images": part["row"].nunique(), "chance": part["chance"].mean()}
        | _means(part, seed, resamples)
        for names, lines in first.groupby([*CELL[:2], "method"], sort=False)
        for stratum, level, part in _strata(lines, traits)
        if len(part)
    ]
    columns = ["dataset", "model", "method", "stratum", "level", "images", "chance"]
    return pd.DataFrame(rows, columns=columns + [f"{measure}{end}" for measure in MEASURES for end in COLUMNS])


def accuracy_by_trait(cells: Sequence[Cell], traits: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Test accuracy of each cell by the traits of its images, over all test images, with 95 % intervals."""
    rows = []
    for cell in cells:
        levels = traits[cell.dataset].reindex(cell.predictions["row"]).reset_index(drop=True)
        right = cell.predictions["label"] == cell.predictions["predicted"]
        for trait in levels:
            for level, part in right.groupby(levels[trait]):
                ends = dict(zip(COLUMNS, share_interval(float(part.mean()), len(part)), strict=True))
                about = {"dataset": cell.dataset, "model": cell.model, "trait": trait, "level": level}
                rows.append(about | {"images": len(part)} | {f"accuracy{end}": value for end, value in ends.items()})
    columns = ["dataset", "model", "trait", "level", "images", *(f"accuracy{end}" for end in COLUMNS)]
    return pd.DataFrame(rows, columns=columns)


def _strata(lines: pd.DataFrame, traits: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    predicted = predicted_only(lines)
    for level, (rule, correct) in ANSWERS.items():
        yield "answer", level, lines[(lines["target_rule"] == rule) & (lines["correct"] == correct)]
    for name, part in predicted.groupby("label"):
        yield "class", str(name), part
    for size in SIZES:
        yield "size", size, predicted[predicted["size"] == size]
    for trait in traits:
        for found, part in predicted.groupby(trait):
            yield trait, str(found), part


def _means(part: pd.DataFrame, seed: int, resamples: int) -> dict[str, float]:
    means: dict[str, float] = {}
    for measure in MEASURES:
        if len(values := part[measure].dropna().to_numpy(float)):
            share = measure == "pointing_game"
            found = share_interval(values.mean(), len(values)) if share else mean_interval(values, seed, resamples)
            means |= {f"{measure}{end}": value for end, value in zip(COLUMNS, found, strict=True)}
    return means
