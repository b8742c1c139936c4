"""The report's figures, by matplotlib without a window: equal inputs give equal bytes.

Colours are Okabe and Ito's (2008), told apart by colour-blind readers; methods keep theirs in every figure, baselines
are grey and differ by their dashes.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.files import whole_file
from pipeline.report.cells import Cell, title_of
from pipeline.report.tables import arrow

METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
BASELINE_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
GREY, LIGHT = "#767676", "#d0d0d0"
DPI = 110
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
}

Drawer = Callable[[Sequence[Cell]], Figure]


def write_figures(cells: Sequence[Cell], report_dir: Path) -> dict[str, Path]:
    """Every figure of one dataset by its kind, as figures/<dataset>_<kind>.png."""
    dataset = cells[0].dataset
    return {
        kind: _write(draw, cells, report_dir / "figures" / f"{dataset}_{kind}.png") for kind, draw in DRAWERS.items()
    }


def curves_figure(cells: Sequence[Cell]) -> Figure:
    """Mean insertion (above) and deletion (below) curves, one column for each model."""
    figure = Figure(figsize=(2.7 * len(cells) + 0.5, 5.2), layout="constrained")
    axes = figure.subplots(2, len(cells), sharex=True, sharey=True, squeeze=False)
    for row, (curve, metric) in enumerate((("insertion", "insertion_auc"), ("deletion", "deletion_auc"))):
        for column, cell in enumerate(cells):
            _draw_curves(axes[row, column], cell, curve)
        axes[row, 0].set_ylabel(f"{curve}: probability\n({_direction(metric)})")
    for column, cell in enumerate(cells):
        axes[0, column].set_title(cell.model)
        axes[1, column].set_xlabel("fraction of pixels changed")
    _legend_below(figure, axes)
    return figure


def gains_figure(cells: Sequence[Cell]) -> Figure:
    """Gain over the random map with its interval, by model and method; baselines in grey."""
    figure = Figure(figsize=(8.2, 0.9 + 0.9 * len(cells)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True, squeeze=False)[0]
    for axis, metric in zip(axes, ("insertion_gain", "deletion_gain"), strict=True):
        _draw_gains(axis, cells, metric)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_xlabel(f"{metric.replace('_', ' ')} over a random map ({_direction(metric)})")
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(cells)), [cell.model for cell in cells])
    axes[0].invert_yaxis()
    _legend_below(figure, axes[None, :])
    return figure


def training_figure(cells: Sequence[Cell]) -> Figure:
    """Loss (above) and macro F1 on the validation split (below) by epoch, the kept epoch marked."""
    figure = Figure(figsize=(2.7 * len(cells) + 0.5, 4.4), layout="constrained")
    axes = figure.subplots(2, len(cells), sharex=True, sharey="row", squeeze=False)
    for column, cell in enumerate(cells):
        _draw_training(axes[0, column], axes[1, column], cell)
    axes[0, 0].set_ylabel("loss (lower is better ↓)")
    axes[1, 0].set_ylabel("validation macro F1\n(higher is better ↑)")
    _legend_below(figure, axes)
    return figure


def confusion_figure(cells: Sequence[Cell]) -> Figure:
    """Counts on the test split, true classes down, predicted ones across; shaded by the share of the true class."""
    classes = len(cells[0].receipt.classes)
    side = 1.3 + 0.32 * classes
    figure = Figure(figsize=(side * len(cells) + 0.9, side + 1.1), layout="constrained")
    axes = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for axis, cell in zip(axes, cells, strict=True):
        _draw_confusion(axis, cell)
    axes[0].set_ylabel("true class")
    return figure


DRAWERS: dict[str, Drawer] = {
    "curves": curves_figure,
    "gains": gains_figure,
    "training": training_figure,
    "confusion": confusion_figure,
}


def line_style(cell: Cell, name: str) -> dict[str, Any]:
    """Colour, dashes and width of a method or baseline, the same in every figure."""
    methods, baselines = cell.explanation.methods, cell.baselines
    if name in methods:
        return {"color": METHOD_COLOURS[methods.index(name) % len(METHOD_COLOURS)], "linestyle": "-", "linewidth": 2.0}
    dashes = BASELINE_DASHES[baselines.index(name) % len(BASELINE_DASHES)]
    return {"color": GREY, "linestyle": dashes, "linewidth": 1.1}


def _write(draw: Drawer, cells: Sequence[Cell], path: Path) -> Path:
    with matplotlib.rc_context(), whole_file(path) as partial:
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(STYLE)
        draw(cells).savefig(partial, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    return path


def _direction(metric: str) -> str:
    return "higher is better ↑" if arrow(metric) == "↑" else "lower is better ↓"


def _draw_curves(axis: Axes, cell: Cell, curve: str) -> None:
    table = cell.mean_curves[cell.mean_curves["curve"] == curve]
    for name in (*cell.baselines, *cell.explanation.methods):
        line = table[table["method"] == name].sort_values("fraction")
        axis.plot(line["fraction"], line["probability"], label=title_of(name), **line_style(cell, name))
    axis.set_ylim(0, 1.02)


def _draw_gains(axis: Axes, cells: Sequence[Cell], metric: str) -> None:
    for place, cell in enumerate(cells):
        names = [
            name
            for name in (*cell.explanation.methods, *cell.baselines)
            if metric in cell.summary.metrics.get(name, {})
        ]
        for offset, name in zip(np.linspace(-0.3, 0.3, len(names)), names, strict=True):
            values = cell.summary.metrics[name]
            ends = [values.get(f"{metric}_low", np.nan), values.get(f"{metric}_high", np.nan)]
            colour = line_style(cell, name)["color"]
            marker = "o" if name in cell.explanation.methods else "^s*Dvx"[cell.baselines.index(name) % 6]
            axis.plot(ends, [place + offset] * 2, color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot(
                values[metric],
                place + offset,
                marker,
                color=colour,
                markersize=5,
                linestyle="none",
                label=title_of(name),
            )


def _draw_training(loss: Axes, score: Axes, cell: Cell) -> None:
    history = cell.history
    loss.plot(history["epoch"], history["train_loss"], color=METHOD_COLOURS[0], label="training")
    loss.plot(history["epoch"], history["validation_loss"], color=METHOD_COLOURS[1], label="validation")
    score.plot(history["epoch"], history["validation_macro_f1"], color=METHOD_COLOURS[1])
    for axis in (loss, score):
        axis.axvline(cell.receipt.best_epoch, color=GREY, linestyle=":", label="kept epoch")
    loss.set_title(cell.model)
    score.set_xlabel("epoch")
    score.set_ylim(0, 1.02)


def _draw_confusion(axis: Axes, cell: Cell) -> None:
    counts = np.array(cell.classification.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            ink = "white" if shares[true, predicted] > 0.5 else "black"
            axis.text(predicted, true, str(count), ha="center", va="center", color=ink, fontsize=8)
    ticks = range(len(counts))
    names = [name.replace("_", " ") for name in cell.receipt.classes]
    axis.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor")
    axis.set_yticks(ticks, names)
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.set_title(cell.model)
    axis.set_xlabel("predicted class")


def _legend_below(figure: Figure, axes: np.ndarray) -> None:
    """One legend for all axes, every label once."""
    found: dict[str, Artist] = {}
    for axis in axes.flat:
        found |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), 6))
