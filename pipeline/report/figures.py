"""The report's figures as PNG and SVG, by matplotlib without a window: equal inputs give equal bytes.

Colours are Okabe and Ito's (2008), told apart by colour-blind readers; methods keep theirs in every figure, baselines
are grey and differ by their dashes.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.files import whole_file
from pipeline.records import ORACLE
from pipeline.report.cells import Cell, title_of
from pipeline.report.curves import Curve
from pipeline.report.tables import arrow

METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
METHOD_DASHES = ("-", "--")  # the second where there are more methods than colours
# Baselines of the curves; more lines in grey could not be told apart.
BASELINE_DASHES = {"random": "-", "centre": "--", "edge": ":", ORACLE: (0, (5, 1, 1, 1, 1, 1))}
BASELINE_MARKERS = "s*^vxDP"
GREY = "#767676"
DPI = 110
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "legend.frameon": False,
    "svg.fonttype": "path",  # looks the same on a machine without the font
    "svg.hashsalt": "figures",  # else every run names its clip paths anew
}
FORMATS: dict[str, dict[str, Any]] = {
    "png": {"dpi": DPI, "metadata": {"Software": None}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
}

Drawer = Callable[[Sequence[Cell]], Figure]
Bands = Mapping[Curve, Float[np.ndarray, " points"]]  # half the height of a mean curve's 95 % band


def write_figures(cells: Sequence[Cell], bands: Mapping[str, Bands], report_dir: Path) -> dict[str, Path]:
    """The SVG of every figure of one dataset by its kind, figures/<dataset>_<kind>.svg; a PNG stands beside each.

    Args:
        bands: by model.
    """
    drawers = {"curves": lambda cells: curves_figure(cells, bands), **DRAWERS}
    stems = {kind: report_dir / "figures" / f"{cells[0].dataset}_{kind}" for kind in drawers}
    return {kind: _write(draw, cells, stems[kind]) for kind, draw in drawers.items()}


def curves_figure(cells: Sequence[Cell], bands: Mapping[str, Bands]) -> Figure:
    """Mean insertion (above) and deletion (below) curves, one column for each model; bands where they are given."""
    figure = Figure(figsize=(2.7 * len(cells) + 0.5, 5.2), layout="constrained")
    axes = figure.subplots(2, len(cells), sharex=True, sharey=True, squeeze=False)
    for row, (curve, metric) in enumerate((("insertion", "insertion_auc"), ("deletion", "deletion_auc"))):
        for column, cell in enumerate(cells):
            _draw_curves(axes[row, column], cell, curve, bands.get(cell.model, {}))
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
    _legend_below(figure, axes[None, :], columns=4)
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
    "gains": gains_figure,
    "training": training_figure,
    "confusion": confusion_figure,
}


def line_style(cell: Cell, name: str) -> dict[str, Any]:
    """Colour, dashes and width of a method or baseline."""
    methods = cell.explanation.methods
    if name not in methods:
        return {"color": GREY, "linestyle": BASELINE_DASHES[name], "linewidth": 1.1}
    lap, colour = divmod(methods.index(name), len(METHOD_COLOURS))
    return {"color": METHOD_COLOURS[colour], "linestyle": METHOD_DASHES[lap % 2], "linewidth": 2.0}


def point_styles(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method, then of each baseline; a baseline's marker is the same in every model."""
    methods = cells[0].explanation.methods
    baselines = dict.fromkeys(name for cell in cells for name in cell.baselines if not name.startswith("random"))
    styles = {name: {"color": METHOD_COLOURS[place % 6], "marker": "o"} for place, name in enumerate(methods)}
    return styles | {
        name: {"color": GREY, "marker": BASELINE_MARKERS[place % len(BASELINE_MARKERS)]}
        for place, name in enumerate(baselines)
    }


def _write(draw: Drawer, cells: Sequence[Cell], stem: Path) -> Path:
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in FORMATS}
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(STYLE)
        figure = draw(cells)
        figure.draw_without_rendering()  # lays it out
        figure.set_layout_engine("none")  # once, not for each format anew
        for kind, options in FORMATS.items():
            with whole_file(paths[kind]) as partial:
                figure.savefig(partial, format=kind, bbox_inches="tight", **options)
    return paths["svg"]


def _direction(metric: str) -> str:
    return "higher is better ↑" if arrow(metric) == "↑" else "lower is better ↓"


def _draw_curves(axis: Axes, cell: Cell, curve: str, bands: Bands) -> None:
    table = cell.mean_curves[cell.mean_curves["curve"] == curve]
    baselines = [name for name in cell.baselines if name in BASELINE_DASHES]
    for name in (*baselines, *cell.explanation.methods):
        line = table[table["method"] == name].sort_values("fraction")
        style = line_style(cell, name)
        axis.plot(line["fraction"], line["probability"], label=title_of(name), **style)
        if (name, curve) in bands:
            ends = (line["probability"] + sign * bands[name, curve] for sign in (-1, 1))
            axis.fill_between(line["fraction"], *ends, color=style["color"], alpha=0.18, linewidth=0)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)


def _draw_gains(axis: Axes, cells: Sequence[Cell], metric: str) -> None:
    styles = point_styles(cells)
    for place, cell in enumerate(cells):
        names = [name for name in styles if metric in cell.summary.metrics.get(name, {})]
        for offset, name in zip(np.linspace(-0.3, 0.3, len(names)), names, strict=True):
            values = cell.summary.metrics[name]
            ends = [values.get(f"{metric}_low", np.nan), values.get(f"{metric}_high", np.nan)]
            axis.plot(ends, [place + offset] * 2, color=styles[name]["color"], linewidth=2, solid_capstyle="butt")
            label = title_of(name)
            axis.plot(values[metric], place + offset, markersize=5, linestyle="none", label=label, **styles[name])


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


def _legend_below(figure: Figure, axes: np.ndarray, columns: int = 6) -> None:
    """One legend for all axes, every label once."""
    found: dict[str, Artist] = {}
    for axis in axes.flat:
        found |= dict(zip(*axis.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=min(len(found), columns))
