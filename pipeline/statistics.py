"""Intervals of means over images."""

import math
import warnings

import numpy as np
from jaxtyping import Float
from scipy.stats import DegenerateDataWarning, bootstrap

CONFIDENCE = 0.95
VALUES_AT_A_TIME = 1 << 22  # resampled values held in memory, about 64 MB with their indices


def mean_interval(values: Float[np.ndarray, " n"], seed: int, resamples: int) -> tuple[float, float, float]:
    """Mean of the values and the low and high end of its 95 % interval, by the BCa bootstrap over images.

    Equal values have no spread to resample: the interval is the mean itself. One value says nothing about spread: its
    low and high are NaN, and whoever writes a record leaves them out. Equal seeds resample equal-length values alike,
    so intervals of methods scored on the same images belong together.

    Raises:
        ValueError: there are no values.
    Source: Efron 1987; scipy.stats.bootstrap.
    """
    if len(values) == 0:
        raise ValueError("values: the mean of nothing has no interval")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, math.nan, math.nan
    if np.ptp(values) == 0:
        return mean, mean, mean
    low, high = _bootstrap(values, seed, resamples, "BCa")
    if not (math.isfinite(low) and math.isfinite(high)):  # BCa's correction is 0/0 where resamples hardly differ
        low, high = _bootstrap(values, seed, resamples, "percentile")
    return mean, low, high


def _bootstrap(values: Float[np.ndarray, " n"], seed: int, resamples: int, method: str) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        interval = bootstrap(
            (values,),
            np.mean,
            n_resamples=resamples,
            batch=max(1, VALUES_AT_A_TIME // len(values)),
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)
