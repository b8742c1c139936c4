"""The tables of a cell's scores: one line for each curve, means by method with intervals, mean curves.

Every map in attributions.npz is scored, the baselines' too, for both target rules. A gain compares a method with the
random map of the same grid on the same image, so that neither the model's confidence nor the grid's fineness counts.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32

from pipeline.metrics.adaptive import Curves, on_even_grid
from pipeline.metrics.drawing import CellCurves
from pipeline.metrics.engine import ORDERS, CurveName, Protocol
from pipeline.metrics.explained import Explained, grid_text
from pipeline.metrics.faithfulness import normalised_auc
from pipeline.metrics.localised import localisation_means
from pipeline.records import ORACLE, Metrics, random_twin
from pipeline.statistics import mean_interval, share_interval


def score_table(
    explained: list[Explained], curves: CellCurves, index: pd.DataFrame, protocol: Protocol
) -> pd.DataFrame:
    """scores.csv: one line for each image, target rule, method and curve.

    A mask that an image does not have orders no pixels, so such an image has no line for the mask.
    """
    about = index.set_index("row")[["file", "label"]]
    predicted = pd.Series(explained[0].targets, index=explained[0].rows)
    parts = []
    for part in explained:
        labels, said = about.loc[part.rows, "label"].to_numpy(), predicted.loc[part.rows].to_numpy()
        images = {
            "row": part.rows,
            "file": about.loc[part.rows, "file"].to_numpy(),
            "label": labels,
            "predicted": said,
            "correct": said == labels,
            "target_rule": part.rule,
            "target": part.targets,
        }
        for method, maps in part.maps.items():
            for curve, substrate in protocol.substrates.items():
                found = curves[f"{method}/{part.rule}/{curve}"]
                columns = images | {"method": method, "grid": grid_text(maps), "curve": curve, "substrate": substrate}
                table = pd.DataFrame(columns | _areas(found, curve))
                parts.append(table.iloc[np.flatnonzero(maps.any(axis=(1, 2)))] if method == ORACLE else table)
    return pd.concat(parts, ignore_index=True)


def even_points(curves: Curves) -> Float32[np.ndarray, "n points"]:
    """Probabilities at even fractions, for curves.npz and plots."""
    return on_even_grid(curves).float().numpy()


def mean_curves(explained: list[Explained], curves: CellCurves) -> pd.DataFrame:
    """curves_mean.csv: the mean curve of each method over all images, for the class predicted."""
    parts = []
    for name, found in curves.items():
        method, rule, curve = name.split("/")
        maps = explained[0].maps[method]
        if rule != explained[0].rule or not maps.any():
            continue
        held = maps.any(axis=(1, 2)) if method == ORACLE else slice(None)
        mean = even_points(found)[held].mean(axis=0, dtype=np.float64)
        fraction = np.linspace(0, 1, len(mean))
        parts.append(pd.DataFrame({"curve": curve, "method": method, "fraction": fraction, "probability": mean}))
    return pd.concat(parts, ignore_index=True)


def method_metrics(
    scores: pd.DataFrame, localisation: pd.DataFrame, seed: int, resamples: int, order: str = ORDERS[0]
) -> Metrics:
    """Means over the images of one target rule by method, with 95 % intervals where there are two images or more.

    A gain is positive where the method does better than the random map of its grid: with the most relevant pixels
    first that is a higher insertion and a lower deletion AUC, with the least relevant first the other way round.
    """
    areas, normalised = (
        scores.pivot(index="row", columns=["curve", "method"], values=column) for column in ("auc", "normalised_auc")
    )
    ahead = {"insertion": 1, "deletion": -1} if order == ORDERS[0] else {"insertion": -1, "deletion": 1}
    random_grid = scores.loc[scores["method"] == "random", "grid"].iloc[0]
    metrics: Metrics = {}
    for method, grid in scores.groupby("method", sort=False)["grid"].first().items():
        twin = random_twin(grid, random_grid)
        values = {f"{curve}_auc": areas[curve, method] for curve in ahead}
        values |= {f"normalised_{curve}_auc": normalised[curve, method] for curve in ahead}
        if method != twin:
            gains = {curve: sign * (areas[curve, method] - areas[curve, twin]) for curve, sign in ahead.items()}
            values |= {f"{curve}_gain": gain for curve, gain in gains.items()}
        places = localisation[localisation["method"] == method]
        metrics[str(method)] = (
            _with_intervals(values, seed, resamples)
            | localisation_means(places)
            | _place_intervals(places, seed, resamples)
        )
    return metrics


def _areas(curves: Curves, curve: CurveName) -> dict[str, Float[np.ndarray, " n"] | int]:
    first, last = curves.probabilities[:, 0], curves.probabilities[:, -1]
    full, substrate = (last, first) if curve == "insertion" else (first, last)
    return {
        "steps": curves.steps,
        "auc": curves.areas.numpy(),
        "error": curves.errors.numpy(),
        "passes": curves.passes.numpy(),
        "normalised_auc": normalised_auc(curves.areas, full, substrate).numpy(),
        "probability_full": full.numpy(),
        "probability_substrate": substrate.numpy(),
    }


def _place_intervals(places: pd.DataFrame, seed: int, resamples: int) -> dict[str, float]:
    """Ends of the intervals of the pointing game, which is a share, and of the mass ratio."""
    if len(places) < 2:
        return {}
    _, *hits = share_interval(float(places["pointing_hit"].astype(float).mean()), len(places))
    _, *mass = mean_interval(places["mass_ratio"].to_numpy(dtype=np.float64), seed, resamples)
    named = {"pointing_game": hits, "mass_ratio": mass}
    return {
        f"{name}_{end}": value for name, ends in named.items() for end, value in zip(("low", "high"), ends, strict=True)
    }


def _with_intervals(values: dict[str, pd.Series], seed: int, resamples: int) -> dict[str, float]:
    """Means, with `_low` and `_high` beside them unless there is only one image, which has no interval."""
    metrics: dict[str, float] = {}
    for name, series in values.items():
        if len(found := series.dropna()):
            mean, low, high = mean_interval(found.to_numpy(dtype=np.float64), seed, resamples)
            metrics |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return {name: value for name, value in metrics.items() if np.isfinite(value)}
