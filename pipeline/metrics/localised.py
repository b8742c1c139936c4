"""localisation.csv: where each map of a cell lies, against the masks of its images; and the means by method."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from pipeline.metrics import localisation
from pipeline.metrics.explained import Explained
from pipeline.metrics.faithfulness import upsampled
from pipeline.metrics.maps import blocks

SCORES: dict[str, Callable[[Float[Tensor, "n h w"], Bool[Tensor, "n h w"]], Float[Tensor, " n"]]] = {
    "mass_ratio": localisation.mass_ratio,
    "mass_over_chance": localisation.mass_over_chance,
    "rank_accuracy": localisation.rank_accuracy,
    "average_precision": localisation.average_precision,
    "top_k_iou": localisation.top_k_iou,
}
LOCALISATION_COLUMNS = ["row", "target_rule", "method", "size", "mask_fraction", "pointing_hit", *SCORES]
MEANS = {"pointing_game": "pointing_hit", "pointing_chance": "mask_fraction", **{name: name for name in SCORES}}


def localisation_table(
    explained: list[Explained], masks: UInt8[np.ndarray, "rows s s"] | None, tolerance_px: int
) -> pd.DataFrame:
    """One line for each image that has a mask with anything in it, target rule and method; the others have none.

    Args:
        tolerance_px: how far from the mask the largest attribution may lie and still hit.
    """
    if masks is None:
        return pd.DataFrame(columns=LOCALISATION_COLUMNS)
    parts = [found for part in explained for found in _lines(part, masks, tolerance_px)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=LOCALISATION_COLUMNS)


def localisation_means(table: pd.DataFrame) -> dict[str, float]:
    """Means over the lines of one method; nothing where there are none."""
    return {} if table.empty else {name: float(table[column].astype(float).mean()) for name, column in MEANS.items()}


def _lines(part: Explained, masks: UInt8[np.ndarray, "rows s s"], tolerance_px: int) -> Iterator[pd.DataFrame]:
    """Some images of one method at a time, so that memory does not grow with the test set."""
    held = np.flatnonzero([masks[row].any() for row in part.rows])
    for method, maps in part.maps.items():
        for block in blocks(len(held)):
            chosen = held[block]
            rows = part.rows[chosen]
            found = _scores(torch.from_numpy(maps[chosen]), torch.from_numpy(masks[rows] > 0), tolerance_px)
            columns = {"row": rows, "target_rule": part.rule, "method": method, **found}
            yield pd.DataFrame(columns, columns=LOCALISATION_COLUMNS)


def _scores(
    maps: Float[Tensor, "n rows columns"], masks: Bool[Tensor, "n h w"], tolerance_px: int
) -> dict[str, np.ndarray | list[localisation.Stratum]]:
    attributions = upsampled(maps, (masks.shape[1], masks.shape[2]))
    return {
        "size": localisation.size_strata(masks),
        "mask_fraction": localisation.mask_fraction(masks).numpy(),
        "pointing_hit": localisation.pointing_game(attributions, masks, tolerance_px).numpy(),
        **{name: score(attributions, masks).numpy() for name, score in SCORES.items()},
    }
