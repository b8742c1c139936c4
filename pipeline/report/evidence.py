"""Every explained image of every cell as a line of one table: what all tables, tests and findings are drawn from.

A line is an image, a method or baseline and a target rule. Gains are signed so that higher is better, whatever curve
and order of pixels they come from.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from PIL import Image

from pipeline.report.cells import Cell, twin_of
from pipeline.report.overlays import strength

GAINS = ("insertion_gain", "deletion_gain")
LOCALISED = {
    "pointing_game": "pointing_hit",
    "mass_ratio": "mass_ratio",
    "chance": "mask_fraction",  # share of the image inside the mask: what a blind guess gets
}
KEYS = ["row", "method", "target_rule"]
CELL = ["dataset", "model", "seed"]
ENDS = ("_low", "_high")  # of the columns beside a mean that hold its interval


def evidence_of(cells: Sequence[Cell], traits: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The table of all cells; a trait or measure that a cell does not have is missing in its lines.

    Columns beside `CELL` and `KEYS`: label, predicted (names), correct, is_method, insertion_auc, deletion_auc,
    `GAINS`, `LOCALISED`, size, gini, shared_variance, and the traits of the images.

    Args:
        traits: by dataset, a level of each trait for each row of the prepared set.
    """
    return pd.concat([_cell_evidence(cell).join(traits[cell.dataset], on="row") for cell in cells], ignore_index=True)


def gini(attribution: Float[np.ndarray, "h w"]) -> float:
    """0 for a flat map, towards 1 for a single bright point, NaN for a blank one.

    Source: Hurley and Rickard 2009, Comparing measures of sparsity; used for explanations by Chalasani et al. 2020.
    """
    ordered = np.sort(attribution, axis=None).astype(np.float64)
    if ordered[-1] <= 0:
        return float("nan")
    ranks = np.arange(1, ordered.size + 1)
    return float(((2 * ranks - ordered.size - 1) * ordered).sum() / (ordered.size * ordered.sum()))


def averaged(attribution: Float32[np.ndarray, "h w"], grid: tuple[int, int]) -> Float32[np.ndarray, "rows columns"]:
    """The map on a coarser grid by means of areas: a fine map could be sharper for its grid alone."""
    rows, columns = grid
    return np.asarray(Image.fromarray(attribution).resize((columns, rows), Image.Resampling.BOX))


def r_squared(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> float:
    """Share of variance that two maps have in common; NaN where one is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1] ** 2)


def _cell_evidence(cell: Cell) -> pd.DataFrame:
    names = dict(enumerate(cell.receipt.classes))
    table = _with_gains(cell).merge(_places(cell), on=KEYS, how="left").merge(_shapes(cell), on=KEYS, how="left")
    table["label"], table["predicted"] = table["label"].map(names), table["predicted"].map(names)
    table["dataset"], table["model"], table["seed"] = cell.dataset, cell.model, cell.receipt.seed
    order = {name: place for place, name in enumerate((*cell.explanation.methods, *cell.baselines))}
    table = table.sort_values("method", key=lambda names: names.map(order), kind="stable")  # methods first
    return table.assign(is_method=table["method"].isin(cell.explanation.methods))


def _with_gains(cell: Cell) -> pd.DataFrame:
    """AUCs of each map, and by how much they beat the random map of its grid on the same image."""
    images = [*KEYS, "label", "predicted", "correct"]
    table = cell.scores.pivot(index=images, columns="curve", values="auc").reset_index()
    twins = {name: twin_of(name, cell.explanation) for name in table["method"].unique()}
    table = table.assign(twin=table["method"].map(twins)).merge(
        table[[*KEYS, "insertion", "deletion"]].rename(columns={"method": "twin"}),
        on=["row", "twin", "target_rule"],
        suffixes=("", "_twin"),
        how="left",
    )
    sign = 1 if cell.summary.order == "most_relevant_first" else -1
    own = table["method"] == table["twin"]  # a random map gains nothing over itself
    table["insertion_gain"] = (sign * (table["insertion"] - table["insertion_twin"])).mask(own)
    table["deletion_gain"] = (sign * (table["deletion_twin"] - table["deletion"])).mask(own)
    table = table.rename(columns={"insertion": "insertion_auc", "deletion": "deletion_auc"})
    return table[[*images, "insertion_auc", "deletion_auc", *GAINS]]


def _places(cell: Cell) -> pd.DataFrame:
    table = cell.localisation[[*KEYS, "size"]].copy()
    for name, column in LOCALISED.items():
        table[name] = cell.localisation[column].astype(float)
    return table


def _shapes(cell: Cell) -> pd.DataFrame:
    """How scattered a method's map is for the class predicted, and what it shares with that for the true class."""
    maps, parts = cell.heatmaps, []
    coarsest = min((cell.explanation.grids[method] for method in cell.explanation.methods), key=math.prod)
    for method in cell.explanation.methods:
        predicted = maps.attributions[f"{method}/predicted"]
        shared = pd.Series(_shared_variance(cell, method), index=maps.rows["true"], dtype=float)
        rows = maps.rows["predicted"]
        scatter = [gini(averaged(strength(attribution), coarsest)) for attribution in predicted]
        columns = {"row": rows, "method": method, "target_rule": "predicted", "gini": scatter}
        parts.append(pd.DataFrame(columns).assign(shared_variance=shared.reindex(rows).to_numpy()))
    return pd.concat(parts)


def _shared_variance(cell: Cell, method: str) -> list[float]:
    """Of each misclassified image's maps for the predicted and the true class."""
    maps = cell.heatmaps
    places = pd.Index(maps.rows["predicted"]).get_indexer(maps.rows["true"])
    pairs = zip(maps.attributions[f"{method}/predicted"][places], maps.attributions[f"{method}/true"], strict=True)
    return [r_squared(one, other) for one, other in pairs]
