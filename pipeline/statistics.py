"""Means over images with intervals, tests in pairs, and agreement of rankings; by scipy, wherever scipy has it.

Several series of values on the same images (one row each) are resampled alike, so that what is compared belongs
together, and a row's result does not depend on which others stand beside it.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

CONFIDENCE = 0.95
VALUES_AT_A_TIME = 1 << 20  # resampled values held in memory, about 16 MB with their indices
Rows = Float[np.ndarray, "k n"]


def mean_interval(values: Float[np.ndarray, " n"], seed: int, resamples: int) -> tuple[float, float, float]:
    """Mean of the values and the low and high end of its 95 % interval, by the BCa bootstrap over images.

    Equal values have no spread to resample: the interval is the mean itself. One value says nothing about spread: its
    low and high are NaN, and whoever writes a record leaves them out.

    Raises:
        ValueError: there are no values.
    Source: Efron 1987; scipy.stats.bootstrap.
    """
    if len(values) == 0:
        raise ValueError("values: the mean of nothing has no interval")
    mean, low, high = mean_intervals(values[None], seed, resamples)[0]
    return float(mean), float(low), float(high)


def mean_intervals(values: Rows, seed: int, resamples: int) -> Float[np.ndarray, "k 3"]:
    """`mean_interval` of each row."""
    means = values.mean(axis=1)
    if values.shape[1] == 1:
        return np.stack([means, np.full_like(means, math.nan), np.full_like(means, math.nan)], axis=1)
    ends = np.stack([means, means], axis=1)
    spread = np.ptp(values, axis=1) > 0
    if spread.any():
        resampled = _resampled_means(values[spread], seed, resamples)
        levels = _bca_levels(values[spread], resampled)
        ends[spread] = [np.quantile(*row) for row in zip(resampled, levels, strict=True)]
    return np.column_stack([means, ends])


def share_interval(share: float, n: int) -> tuple[float, float, float]:
    """A share of n images with its 95 % interval, which has a width also where all or none of them count.

    The share may be a mean over several models of the same images; it then counts as one answer per image, which makes
    the interval rather too wide.

    Source: Wilson 1927.
    """
    z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    arm = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return share, max(0.0, centre - arm), min(1.0, centre + arm)


def sign_interval(values: Float[np.ndarray, " n"]) -> tuple[float, float, float]:
    """Share of positive values less that of negative ones with its 95 % interval, which only zeros have too.

    Source: Bonett and Price 2012, adjusted Wald interval for paired shares.
    """
    n, plus, minus = len(values), int((values > 0).sum()), int((values < 0).sum())
    up, down = (plus + 1) / (n + 2), (minus + 1) / (n + 2)
    arm = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return (plus - minus) / n, max(-1.0, up - down - arm), min(1.0, up - down + arm)


def chance_p(hits: Float[np.ndarray, " n"], chance: Float[np.ndarray, " n"], seed: int, resamples: int) -> float:
    """Two-sided p of the mean of hits under blind guesses that hit image i with probability `chance[i]`.

    Hits may be means over several models; the guesses are then shared by the models, as if they always agreed.
    """
    guesses = np.random.default_rng(seed).random((resamples, len(hits))) < chance
    blind = guesses.mean(axis=1) - chance.mean()
    found = abs(hits.mean() - chance.mean())
    return float((1 + (np.abs(blind) >= found - 1e-12).sum()) / (1 + resamples))


def stratified_interval(
    strata: Sequence[Float[np.ndarray, " _"]], seed: int, resamples: int
) -> tuple[float, float, float]:
    """Mean of the strata's means, as the balanced accuracy is of recalls, with its 95 % interval.

    Each stratum is resampled by itself, so that none can vanish; percentile bootstrap.
    """
    rng = np.random.default_rng(seed)
    resampled = [rng.choice(values, (resamples, len(values))).mean(axis=1) for values in strata]
    low, high = np.quantile(np.mean(resampled, axis=0), [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(np.mean([values.mean() for values in strata])), float(low), float(high)


def two_level_interval(
    values: Float[np.ndarray, "seeds n"], seed: int, resamples: int, share: bool = False
) -> tuple[float, float, float]:
    """Mean over fine-tuning seeds and images with its 95 % interval, for seeds and images not seen alike.

    The squared arms of two intervals are added: of the mean over images (each the average of its seeds; bootstrap, or
    `share_interval` where values are 0 or 1) and of the mean over seeds (Student's t, which is wide for few seeds, as
    it should be). What an image and a seed make of each other is in both, so the interval is rather too wide than too
    narrow. One seed has no second arm.

    Source: the recovery of variance estimates of Zou and Donner 2008, Statistics in Medicine 27, 1693-1702.
    """
    images = values.mean(axis=0)
    mean, low, high = (
        share_interval(float(images.mean()), len(images)) if share else mean_interval(images, seed, resamples)
    )
    if len(values) == 1:
        return mean, low, high
    arm = seed_arm(values.mean(axis=1))
    return mean, mean - math.hypot(mean - low, arm), mean + math.hypot(high - mean, arm)


def seed_arm(means: Float[np.ndarray, " seeds"]) -> float:
    """Half the width of the 95 % interval of the mean over seeds, by Student's t."""
    return float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(means) - 1) * stats.sem(means))


def paired_tests(differences: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """Each column's differences, image by image, against none: one row for each column, in their order.

    Columns:
        images: that both sides of the difference were measured on.
        difference, _low, _high: the mean with its interval.
        win_share, _low, _high: share of images where the difference is positive; a tie counts half.
        rank_biserial: -1 to 1, the size of the effect that Wilcoxon's test sees; 0 where all differences are 0.
        p_wilcoxon, p_permutation: two-sided; the second flips signs.
    """
    parts = [_tests(differences[columns].dropna(), seed, resamples) for columns in _measured_alike(differences)]
    return pd.concat(parts).reindex(differences.columns) if parts else pd.DataFrame(index=differences.columns)


def sign_flip_p(values: Rows, seed: int, resamples: int) -> Float[np.ndarray, " k"]:
    """Two-sided p of each row's mean being 0, by flipping signs: all ways where they are fewer than `resamples`.

    Exact where the values lie alike on both sides of 0 under the null, as differences of two treatments do.
    """
    found = stats.permutation_test(
        (values,),
        lambda rows, axis: rows.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, VALUES_AT_A_TIME // values.size),
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return np.atleast_1d(found.pvalue)


def wilcoxon_p(values: Float[np.ndarray, " n"]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; 1 where all values are 0."""
    return float(stats.wilcoxon(values).pvalue) if np.any(values) else 1.0


def rank_biserial(values: Float[np.ndarray, " n"]) -> float:
    """Share of the rank sum that speaks for positive values less the share for negative ones, in [-1, 1].

    Source: Kerby 2014, for Wilcoxon's matched pairs.
    """
    values = values[values != 0]
    ranks = stats.rankdata(np.abs(values))
    return float((np.sign(values) * ranks).sum() / ranks.sum()) if len(values) else 0.0


def holm(p_values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """The p-values of one family of tests, corrected for their number; an undefined one stays and is not counted.

    Source: Holm 1979.
    """
    adjusted = np.array(p_values, dtype=float)
    order = np.argsort(adjusted)[: np.isfinite(adjusted).sum()]  # NaN sorts last
    adjusted[order] = np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1)).clip(max=1)
    return adjusted


def rank_agreement(one: Float[np.ndarray, " k"], other: Float[np.ndarray, " k"]) -> float:
    """Kendall's tau-b of two rankings of the same things; NaN where one ranks nothing."""
    return float(stats.kendalltau(one, other).statistic)


def friedman(values: Float[np.ndarray, "n k"]) -> tuple[float, float, float]:
    """Chi-squared and p of "all k treatments are alike on the n images", and Kendall's W: 0 no order, 1 always one.

    NaN where there are fewer than three treatments, or only ties.
    """
    images, treatments = values.shape
    if treatments < 3 or images < 2 or (values == values[:, :1]).all():
        return math.nan, math.nan, math.nan
    found = stats.friedmanchisquare(*values.T)
    return float(found.statistic), float(found.pvalue), float(found.statistic / (images * (treatments - 1)))


def _measured_alike(differences: pd.DataFrame) -> list[list]:
    """The columns in groups that miss the same images; columns without any image are in none."""
    patterns: dict[bytes, list] = {}
    for name, column in differences.items():
        if (held := column.notna().to_numpy()).any():
            patterns.setdefault(held.tobytes(), []).append(name)
    return list(patterns.values())


def _tests(differences: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    values = differences.to_numpy(float).T
    shares = (np.array([sign_interval(row) for row in values]) + 1) / 2
    columns = {"images": np.full(len(values), values.shape[1])}
    for name, found in (("difference", mean_intervals(values, seed, resamples)), ("win_share", shares)):
        columns |= {f"{name}{end}": ends for end, ends in zip(("", "_low", "_high"), found.T, strict=True)}
    columns["rank_biserial"] = np.array([rank_biserial(row) for row in values])
    columns["p_wilcoxon"] = np.array([wilcoxon_p(row) for row in values])
    columns["p_permutation"] = sign_flip_p(values, seed, resamples)
    return pd.DataFrame(columns, index=differences.columns)


def _resampled_means(values: Rows, seed: int, resamples: int) -> Float[np.ndarray, "k resamples"]:
    return stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, VALUES_AT_A_TIME // values.size),
        method="percentile",
        axis=-1,
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution


def _bca_levels(values: Rows, resampled: Float[np.ndarray, "k resamples"]) -> Float[np.ndarray, "k 2"]:
    """The shares of the resampled means that lie below the ends of the interval.

    As `scipy.stats.bootstrap` has them, whose jackknife takes n * n values: of means it needs no resampling, as without
    value i the mean moves by (mean - value i) / (n - 1). Where resamples hardly differ, the corrections are 0/0, and
    the levels are those of the percentile interval.
    """
    plain = np.array([0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    means = values.mean(axis=1, keepdims=True)
    pull = values - means
    with np.errstate(invalid="ignore", divide="ignore"):
        bias = stats.norm.ppf(((resampled < means).mean(axis=1) + (resampled <= means).mean(axis=1)) / 2)[:, None]
        acceleration = (pull**3).sum(axis=1, keepdims=True) / (6 * (pull**2).sum(axis=1, keepdims=True) ** 1.5)
        z = bias + stats.norm.ppf(plain)
        levels = stats.norm.cdf(bias + z / (1 - acceleration * z))
    return np.where(np.isfinite(levels).all(axis=1, keepdims=True), levels, plain)
