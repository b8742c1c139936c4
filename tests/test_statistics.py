"""Intervals, tests in pairs and rankings: known values, honest edges, and what they promise on simulated data."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap, norm

from pipeline.statistics import (
    chance_p,
    friedman,
    holm,
    mean_interval,
    mean_intervals,
    paired_tests,
    rank_agreement,
    rank_biserial,
    share_interval,
    sign_flip_p,
    sign_interval,
    stratified_interval,
    two_level_interval,
    wilcoxon_p,
)


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


@pytest.mark.parametrize("values", [[0.1, 0.1, 0.9], [0, 0, 0, 0, 1], list(range(9)), [1e-9, 0, 3e-9, 1e-3]])
def test_the_interval_is_scipys(values):
    row = np.array([values], dtype=float)
    theirs = bootstrap((row,), np.mean, n_resamples=500, axis=-1, rng=np.random.default_rng(7)).confidence_interval
    ours = mean_interval(row[0], seed=7, resamples=500)[1:]
    assert ours == pytest.approx((theirs.low[0], theirs.high[0]), rel=1e-12)


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


def test_rows_resampled_together_get_the_intervals_that_they_get_alone():
    values = np.random.default_rng(0).normal(size=(3, 25))
    alone = [mean_interval(row, 4, 500) for row in values]
    assert mean_intervals(values, 4, 500) == pytest.approx(np.array(alone))


def test_a_small_stratum_counts_as_much_as_a_large_one():
    strata = [np.array([1.0, 1.0, 0.0, 1.0]), np.tile([0.0, 1.0], 50)]
    mean, low, high = stratified_interval(strata, 0, 500)
    assert mean == pytest.approx((0.75 + 0.5) / 2)
    assert low < mean < high


def test_intervals_of_the_balanced_accuracy_cover_it():
    rng, worlds = np.random.default_rng(0), 300
    covered = 0
    for world in range(worlds):
        _, low, high = stratified_interval([(rng.random(n) < p) * 1.0 for n, p in ((60, 0.9), (90, 0.7))], world, 400)
        covered += low <= 0.8 <= high
    assert covered / worlds >= 0.95 - 3.5 * math.sqrt(0.95 * 0.05 / worlds)


def test_one_seed_has_the_interval_over_images():
    values = np.random.default_rng(0).random((1, 30))
    assert two_level_interval(values, 5, 500) == mean_interval(values[0], 5, 500)


def test_seeds_that_disagree_widen_the_interval_by_students_t():
    values = np.random.default_rng(0).normal(size=30) + np.array([[-1.0], [0.0], [1.0]])
    mean, low, high = two_level_interval(values, 5, 500)
    inner = mean_interval(values.mean(axis=0), 5, 500)
    arm = 4.3027 / math.sqrt(3)  # Student's t with two degrees of freedom, seed means 1 apart
    assert (mean - low) ** 2 == pytest.approx((mean - inner[1]) ** 2 + arm**2, rel=1e-3)
    assert (high - mean) ** 2 == pytest.approx((inner[2] - mean) ** 2 + arm**2, rel=1e-3)


@pytest.mark.parametrize("seeds", [3, 5])
def test_two_level_intervals_cover_the_true_mean_at_least_as_often_as_they_promise(seeds: int):
    """Seeds and images have effects of their own, beside what is left: none of the three is left out."""
    rng, worlds = np.random.default_rng(1), 200
    covered = 0
    for world in range(worlds):
        values = rng.normal(0, 0.3, (seeds, 1)) + rng.normal(size=40) + rng.normal(0, 0.5, (seeds, 40))
        _, low, high = two_level_interval(values, world, 300)
        covered += low <= 0 <= high
    assert covered / worlds >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / worlds)


def test_signs_flipped_in_every_way_give_the_p_worked_out_by_hand():
    """Of the 16 ways to sign 1, 2, 3 and 4, only all up and all down have a mean as far from 0 as theirs."""
    assert sign_flip_p(np.array([[1.0, 2.0, 3.0, 4.0]]), 0, 5000) == pytest.approx([2 / 16])


def test_paired_tests_seldom_see_a_difference_that_is_not_there():
    rng, worlds = np.random.default_rng(0), 600
    values = rng.gamma(2, size=(worlds, 30)) - rng.gamma(2, size=(worlds, 30))
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)
    assert (sign_flip_p(values, 0, 999) < 0.05).mean() <= allowed
    assert np.mean([wilcoxon_p(row) < 0.05 for row in values]) <= allowed


def test_paired_tests_see_a_difference_that_is_there():
    values = np.random.default_rng(0).normal(0.8, 1, size=(50, 40))
    assert (sign_flip_p(values, 0, 999) < 0.05).mean() > 0.9


def test_holm_holds_the_errors_of_a_family_together():
    rng, families = np.random.default_rng(0), 2000
    wrong = np.mean([holm(rng.random(10)).min() < 0.05 for _ in range(families)])
    assert wrong == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / families))


def test_holm_worked_out_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])


def test_holm_counts_only_what_was_tested():
    assert holm(np.array([0.02, math.nan, 0.5])) == pytest.approx([0.04, math.nan, 0.5], nan_ok=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 3.0], 1.0), ([-1.0, -5.0], -1.0), ([1.0, 2.0, -3.0], 0.0), ([0.0, 0.0], 0.0), ([0.0, 4.0], 1.0)],
)
def test_rank_biserial_weighs_ranks_for_against_ranks_against(values: list[float], expected: float):
    assert rank_biserial(np.array(values)) == pytest.approx(expected)


def test_a_table_of_paired_tests_holds_each_columns_own_numbers():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(0.5, 1, 20), "b": rng.normal(size=20), "c": np.nan})
    table.loc[:4, "b"] = np.nan
    found = paired_tests(table, 3, 500)
    assert found["images"].tolist() == pytest.approx([20, 15, math.nan], nan_ok=True)
    for name in ("a", "b"):
        values = table[name].dropna().to_numpy()
        row = found.loc[name]
        assert row[["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(
            mean_interval(values, 3, 500)
        )
        assert row["win_share"] == pytest.approx((values > 0).mean())
        assert row["win_share_low"] < row["win_share"] < row["win_share_high"]
        assert row["p_wilcoxon"] == wilcoxon_p(values)
        assert row["p_permutation"] == pytest.approx(sign_flip_p(values[None], 3, 500)[0])


def test_images_without_any_difference_say_nothing():
    (row,) = paired_tests(pd.DataFrame({"a": np.zeros(12)}), 0, 500).to_dict("records")
    assert row["difference"] == row["rank_biserial"] == 0
    assert row["win_share"] == 0.5
    assert row["p_wilcoxon"] == row["p_permutation"] == 1


def test_kendall_of_one_swap_among_four():
    tau = rank_agreement(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]))
    assert tau == pytest.approx(4 / 6)  # 5 pairs in order, 1 not


def test_friedman_knows_full_agreement_and_none():
    chi_squared, p, w = friedman(np.arange(4.0) + np.zeros((6, 1)))
    assert (chi_squared, w) == pytest.approx((6 * 3, 1))
    assert p < 0.001
    assert math.isnan(friedman(np.zeros((6, 4)))[2])
    assert math.isnan(friedman(np.random.default_rng(0).random((6, 2)))[2])


def test_friedman_seldom_sees_a_best_model_among_equals():
    rng, worlds = np.random.default_rng(0), 600
    wrong = np.mean([friedman(rng.random((25, 4)))[1] < 0.05 for _ in range(worlds)])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)


def test_a_share_has_wilsons_interval_also_where_none_count():
    expected = [binomtest(k, 20).proportion_ci(method="wilson") for k in (0, 7, 20)]
    found = [share_interval(k / 20, 20) for k in (0, 7, 20)]
    for (_, low, high), ends in zip(found, expected, strict=True):
        assert (low, high) == pytest.approx((ends.low, ends.high), abs=1e-9)


@pytest.mark.parametrize(("p", "n"), [(0.05, 40), (0.5, 10), (0.3, 40)])
def test_intervals_of_shares_cover_them(p: float, n: int):
    draws = np.random.default_rng(0).binomial(n, p, size=2000) / n
    covered = np.mean([low <= p <= high for _, low, high in (share_interval(float(draw), n) for draw in draws)])
    assert covered >= 0.93


@pytest.mark.parametrize(("up", "down", "n"), [(0.0, 0.0, 40), (0.1, 0.1, 40), (0.4, 0.1, 30)])
def test_intervals_of_paired_shares_cover_their_difference(up: float, down: float, n: int):
    rng = np.random.default_rng(0)
    draws = rng.choice([1.0, -1.0, 0.0], p=[up, down, 1 - up - down], size=(1000, n))
    ends = [sign_interval(draw) for draw in draws]
    assert np.mean([low <= up - down <= high for _, low, high in ends]) >= 0.93
    assert all(low < high for _, low, high in ends)


@pytest.mark.parametrize("n", [10, 20, 40])
def test_blind_guesses_are_seldom_taken_for_more_or_less(n: int):
    """Where the mask is small, a blind map often hits nothing at all, which is no proof against it."""
    rng, worlds, chance = np.random.default_rng(0), 300, np.full(n, 0.08)
    wrong = np.mean([chance_p((rng.random(n) < chance) * 1.0, chance, world, 999) < 0.05 for world in range(worlds)])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)


def test_hits_beyond_chance_are_seen():
    assert chance_p(np.array([1.0] * 8 + [0.0] * 12), np.full(20, 0.08), 0, 1999) < 0.01


def test_seeds_of_shares_add_their_arm_to_wilsons():
    values = np.array([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    mean, low, high = two_level_interval(values, 0, 500, share=True)
    assert (mean, low, high) == pytest.approx(share_interval(0.75, 4))  # the seeds agree: no arm of theirs
