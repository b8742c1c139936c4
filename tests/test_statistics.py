"""Bootstrap intervals: known values, honest edges, and the coverage they promise."""

import math
import warnings

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.statistics import mean_interval


def bca_by_the_book(values: np.ndarray, seed: int, resamples: int) -> tuple[float, float]:
    """Efron 1987, with loops."""
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(resamples)])
    bias = norm.ppf((means < values.mean()).mean() / 2 + (means <= values.mean()).mean() / 2)
    left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
    pull = left_out.mean() - left_out
    acceleration = (pull**3).sum() / (6 * (pull**2).sum() ** 1.5)
    ends = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in norm.ppf([0.025, 0.975])]
    low, high = np.quantile(means, norm.cdf(ends))
    return float(low), float(high)


def test_the_interval_is_efrons():
    values = np.random.default_rng(1).exponential(size=40)
    mean, low, high = mean_interval(values, seed=3, resamples=4000)
    assert mean == values.mean()
    assert (low, high) == pytest.approx(bca_by_the_book(values, 3, 4000), abs=0.02 * (high - low))


def test_a_skewed_sample_has_the_longer_arm_on_its_tail():
    values = np.random.default_rng(0).exponential(size=30)
    mean, low, high = mean_interval(values, seed=0, resamples=2000)
    assert low < mean < high
    assert high - mean > mean - low


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = np.random.default_rng(0).random(30)
    assert mean_interval(values, 5, 500) == mean_interval(values, 5, 500)
    assert mean_interval(values, 5, 500) != mean_interval(values, 6, 500)


def test_the_interval_moves_and_scales_with_the_values():
    values = np.random.default_rng(0).random(30)
    expected = [10 * end + 3 for end in mean_interval(values, 5, 500)]
    assert mean_interval(10 * values + 3, 5, 500) == pytest.approx(expected)


def test_equal_values_are_their_own_interval():
    assert mean_interval(np.full(7, 0.3), 0, 200) == pytest.approx((0.3, 0.3, 0.3))


def test_one_value_has_a_mean_but_no_interval():
    mean, low, high = mean_interval(np.array([0.4]), 0, 200)
    assert mean == 0.4
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0] * 60 + [1.0], [0.5, 0.5 + 1e-12, 0.5]])
def test_scarce_values_still_have_finite_ends_and_no_warning(values: list[float]):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mean, low, high = mean_interval(np.array(values), 0, 200)
    assert low <= mean <= high


def test_nothing_has_no_mean():
    with pytest.raises(ValueError, match="nothing"):
        mean_interval(np.array([], dtype=np.float64), 0, 200)


def test_intervals_cover_the_true_mean_as_often_as_they_promise():
    rng = np.random.default_rng(0)
    worlds = 400
    intervals = [mean_interval(rng.beta(2, 5, size=60), seed, 1000) for seed in range(worlds)]
    covered = sum(low <= 2 / 7 <= high for _, low, high in intervals) / worlds
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / worlds))
