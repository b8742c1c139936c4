"""What a condition or a rank is about, measured on a registered version."""

import pandas as pd

from pipeline.errors import StudyError
from pipeline.params.promotion import ALL, CLASS, RAW_MEASURES, TEST, Quantity
from pipeline.promotion.answers import measured_answers
from pipeline.promotion.explanations import RANDOM, lead_of_heatmaps, measured_heatmaps
from pipeline.promotion.measurement import NOTHING, Measurement, Resampling
from pipeline.promotion.registered import Registered
from pipeline.report.cells import Cell, twin_of
from pipeline.report.comparisons import predicted_only

ANSWER_COLUMNS = ("row", "file", "label", "predicted", "correct")  # and p_<class>; all others are traits


def measured(version: Registered, quantity: Quantity, resampling: Resampling) -> Measurement:
    """The metric on the quantity's slice, or its lead over the baseline named there.

    Raises:
        StudyError: the slice's column or class is none of the dataset's.
    """
    _refuse_unknown_slice(version, quantity)
    draws = resampling.of(version.cell.dataset, quantity.metric, quantity.slice)
    if quantity.source == TEST:
        answers = sliced(version.answers, quantity)
        over_majority = quantity.better_than is not None
        return measured_answers(answers, version.cell.receipt.classes, quantity.measure, over_majority, draws)
    if quantity.source not in version.cell.explanation.methods:
        return NOTHING
    lines = sliced(predicted_only(version.evidence), quantity)
    if quantity.better_than is None:
        return measured_heatmaps(lines, quantity.measure, quantity.source, draws)
    baseline = _map_of(quantity, version.cell)
    return lead_of_heatmaps(lines, quantity.measure, quantity.source, baseline, _sign(quantity, version.cell), draws)


def sliced(images: pd.DataFrame, quantity: Quantity) -> pd.DataFrame:
    """The lines of answers or evidence that the quantity speaks of."""
    if quantity.column:
        column = "label" if quantity.column == CLASS else quantity.column
        return images[images[column].astype(str) == quantity.level]
    return images if quantity.slice == ALL else images[images["correct"] == (quantity.slice == "correct")]


def _map_of(quantity: Quantity, cell: Cell) -> str:
    """The random map is the one on the method's own grid."""
    return twin_of(quantity.source, cell.explanation) if quantity.better_than == RANDOM else str(quantity.better_than)


def _sign(quantity: Quantity, cell: Cell) -> int:
    """Least relevant pixels first, a good map's curves change places."""
    if quantity.measure not in RAW_MEASURES:
        return 1
    return 1 if (quantity.measure == "insertion_auc") == (cell.summary.order == "most_relevant_first") else -1


def _refuse_unknown_slice(version: Registered, quantity: Quantity) -> None:
    columns = [str(name) for name in version.answers]
    traits = [name for name in columns if name not in ANSWER_COLUMNS and not name.startswith("p_")]
    known = (CLASS, "size", *traits)
    where = f"promotion.conditions: slice {quantity.slice} of {quantity.metric}"
    if quantity.column and quantity.column not in known:
        raise StudyError(f"{where}: {version.cell.dataset} has no such column; choose from {', '.join(known)}")
    if quantity.column == CLASS and quantity.level not in version.cell.receipt.classes:
        raise StudyError(
            f"{where}: {version.cell.dataset} has no such class; choose from {', '.join(version.cell.receipt.classes)}"
        )
