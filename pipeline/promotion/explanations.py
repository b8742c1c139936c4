"""Measures of a model's heatmaps over the explained images, with intervals, and their leads over baselines, in pairs.

The maps are those of the predicted class. A lead is signed so that more is better.
"""

import pandas as pd

from pipeline.params.promotion import CHANCE
from pipeline.promotion.measurement import NOTHING, Measurement, Resampling, measurement
from pipeline.report.evidence import GAINS
from pipeline.statistics import mean_interval, share_interval, sign_interval

SHARE = "pointing_game"  # of images: each counts or does not
RANDOM = "random"


def measured_heatmaps(lines: pd.DataFrame, measure: str, method: str, resampling: Resampling) -> Measurement:
    """Mean of the measure over the images that have it.

    Args:
        lines: of the evidence, one for each image, method and baseline.
    """
    values = _values(lines, method, measure)
    if values.empty:
        return NOTHING
    share = measure == SHARE
    interval = share_interval(float(values.mean()), len(values)) if share else _mean(values, resampling)
    return measurement(interval, len(values))


def lead_of_heatmaps(
    lines: pd.DataFrame, measure: str, method: str, baseline: str, sign: int, resampling: Resampling
) -> Measurement:
    """Mean difference to the baseline, image by image.

    Args:
        baseline: `chance`, else the name of a baseline's map; of a gain, `random` is what it was taken over already.
        sign: -1 where less of the measure is better.
    """
    values = _values(lines, method, measure)
    if baseline == CHANCE:
        return _lead_over_chance(values, _values(lines, method, CHANCE), measure, resampling)
    if not (measure in GAINS and baseline.startswith(RANDOM)):
        values = sign * (values - _values(lines, baseline, measure)).dropna()
    if values.empty:
        return NOTHING
    interval = sign_interval(values.to_numpy()) if measure == SHARE else _mean(values, resampling)
    return measurement(interval, len(values))


def _lead_over_chance(values: pd.Series, chance: pd.Series, measure: str, resampling: Resampling) -> Measurement:
    """Of a share, its interval less what blind guesses get on average; else of the differences."""
    chance = chance.reindex(values.index)
    if values.empty:
        return NOTHING
    if measure != SHARE:
        return measurement(_mean(values - chance, resampling), len(values))
    share, low, high = share_interval(float(values.mean()), len(values))
    shift = float(chance.mean())
    return measurement((share - shift, low - shift, high - shift), len(values))


def _values(lines: pd.DataFrame, method: str, measure: str) -> pd.Series:
    """By row of the prepared set."""
    return lines[lines["method"] == method].set_index("row")[measure].dropna().astype(float)


def _mean(values: pd.Series, resampling: Resampling) -> tuple[float, float, float]:
    return mean_interval(values.to_numpy(), resampling.seed, resampling.resamples)
