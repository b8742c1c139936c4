"""The page's image browser: one card for each image that a model explained, misclassified ones first.

Only the cards asked for are drawn, so the page stays light however many images a study explains.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from pipeline.data.prepared import Prepared
from pipeline.report.cells import Cell, Heatmaps, title_of
from pipeline.report.curves import CURVES, Curve, Lines, image_curves
from pipeline.report.gallery import Tile, heat_tile, image_tile, pictures_of
from pipeline.report.overlays import CellPictures, overlay_rows

MOST_BARS = 8
LINE_POINTS = 29  # of a small curve, whatever the steps it was drawn with
LINE_WIDTH, LINE_HEIGHT = 280, 100  # of its drawing, in units of the SVG
REFERENCE = "random"  # the baseline drawn with the methods

Aucs = dict[tuple[int, str, str], float]  # row, method, curve


@dataclass(frozen=True)
class Bar:
    name: str
    probability: float
    is_true: bool
    is_predicted: bool


@dataclass(frozen=True)
class Maps:
    """An image's heatmaps for one class, by method; the rule says which class that is."""

    rule: str
    target: str
    tiles: dict[str, Tile]


@dataclass(frozen=True)
class Line:
    method: str
    path: str  # of an SVG of LINE_WIDTH x LINE_HEIGHT
    auc: float | None


@dataclass(frozen=True)
class Card:
    """One image by one model."""

    dataset: str
    model: str
    file: str
    label: str
    predicted: str
    probability: float
    right: bool
    image: Tile
    maps: tuple[Maps, ...]
    bars: tuple[Bar, ...]
    curves: dict[str, tuple[Line, ...]]


def browser_cards(cell: Cell, prepared: Prepared, scores_dir: Path, count: int) -> list[Card]:
    """Up to `count` images of a cell, misclassified first, then the classes in turn."""
    pictures = pictures_of(cell, prepared)
    rows = overlay_rows(pictures)[:count]
    positions = [_position(cell.heatmaps, row) for row in rows]
    curves = image_curves(scores_dir, (*cell.explanation.methods, REFERENCE), positions)
    aucs = _aucs(cell, rows)
    return [_card(cell, pictures, row, _small_curves(row, place, curves, aucs)) for place, row in enumerate(rows)]


def line_path(probabilities: Float32[np.ndarray, " points"]) -> str:
    """The curve as the `d` of an SVG path, in whole units, thinned to LINE_POINTS."""
    last = len(probabilities) - 1
    chosen = np.linspace(0, last, min(last + 1, LINE_POINTS)).round().astype(int)
    x = (chosen / last * LINE_WIDTH).round().astype(int)
    y = ((1 - probabilities[chosen]) * LINE_HEIGHT).round().astype(int)
    return "M" + " ".join(f"{across},{down}" for across, down in zip(x, y, strict=True))


def bars_of(
    classes: Sequence[str], probabilities: Float32[np.ndarray, " classes"], label: int, predicted: int
) -> tuple[Bar, ...]:
    """Of the most probable classes and the true one, in the order of the labels."""
    order = sorted(range(len(classes)), key=lambda each: (each != label, -probabilities[each]))
    return tuple(
        Bar(classes[each], float(probabilities[each]), each == label, each == predicted)
        for each in sorted(order[:MOST_BARS])
    )


def _position(heatmaps: Heatmaps, row: int) -> int:
    position = heatmaps.position("predicted", row)
    assert position is not None  # the rows are those explained
    return position


def _aucs(cell: Cell, rows: Sequence[int]) -> Aucs:
    scores = cell.scores[(cell.scores["target_rule"] == "predicted") & cell.scores["row"].isin(rows)]
    return dict(zip(zip(scores["row"], scores["method"], scores["curve"], strict=True), scores["auc"], strict=True))


def _small_curves(row: int, place: int, curves: dict[Curve, Lines], aucs: Aucs) -> dict[str, tuple[Line, ...]]:
    return {
        name: tuple(
            Line(method, line_path(lines[place]), aucs.get((row, method, curve)))
            for (method, curve), lines in curves.items()
            if curve == name
        )
        for name in CURVES
    }


def _card(cell: Cell, pictures: CellPictures, row: int, curves: dict[str, tuple[Line, ...]]) -> Card:
    heatmaps, label = cell.heatmaps, pictures.label(row)
    predicted = heatmaps.predicted_class(row)
    targets = {"predicted": predicted} | ({"true": label} if label != predicted else {})
    return Card(
        dataset=cell.dataset,
        model=cell.model,
        file=str(pictures.prepared.index["file"].iloc[row]),
        label=pictures.classes[label],
        predicted=pictures.classes[predicted],
        probability=heatmaps.probability(row, predicted),
        right=label == predicted,
        image=image_tile(pictures, row),
        maps=tuple(
            _maps(cell, pictures, row, rule, pictures.classes[target])
            for rule, target in targets.items()
            if heatmaps.position(rule, row) is not None
        ),
        bars=bars_of(pictures.classes, heatmaps.probabilities[_position(heatmaps, row)], label, predicted),
        curves=curves,
    )


def _maps(cell: Cell, pictures: CellPictures, row: int, rule: str, target: str) -> Maps:
    tiles = {
        method: heat_tile(pictures, row, method, rule, f"{cell.model}, {title_of(method)} for class {target}")
        for method in pictures.methods
    }
    return Maps(rule, target, tiles)
