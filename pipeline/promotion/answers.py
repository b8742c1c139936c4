"""Metrics of a model's answers to test images, with intervals, and their leads over always the most frequent class.

Balanced accuracy, macro-F1 and macro-AUROC are means over classes, so their bootstrap draws within each class: none can
vanish, and what a model that always gives one class would get stays as it is.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64
from scipy import stats

from pipeline.promotion.measurement import NOTHING, Measurement, Resampling, measurement
from pipeline.statistics import CONFIDENCE, share_interval, sign_interval, stratified_interval

Interval = tuple[float, float, float]  # value, low, high
GUESSED_AUROC = 0.5


def measured_answers(
    answers: pd.DataFrame, classes: Sequence[str], measure: str, over_majority: bool, resampling: Resampling
) -> Measurement:
    """One of accuracy, balanced_accuracy, macro_f1 and macro_auroc; classes without an image are left out.

    Args:
        answers: an image a row; label and predicted (names), p_<class>.
        over_majority: its lead over a model that always gives the most frequent label.
    """
    if answers.empty:
        return NOTHING
    answers = answers.sort_values("label", kind="stable")
    if measure in ("accuracy", "balanced_accuracy"):
        interval = _recall_interval(answers, measure, over_majority, resampling)
    elif measure == "macro_f1":
        interval = _f1_interval(answers, classes, over_majority, resampling)
    else:
        interval = _auroc_interval(answers, over_majority, resampling)
    return measurement(interval, len(answers))


def macro_f1(confusions: Float[np.ndarray, "r k k"]) -> Float[np.ndarray, " r"]:
    """Mean F1 of the classes that have images (rows: true class); 0 for one that is never hit."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    return (2 * hits / np.maximum(true + predicted, 1))[:, true[0] > 0].mean(axis=1)


def macro_auroc(
    labels: Sequence[str], scores: Mapping[str, Float[np.ndarray, " n"]], places: Int64[np.ndarray, "r n"]
) -> Float[np.ndarray, " r"]:
    """Mean area under the curve of each label against the rest, for each row of places; NaN where there is no rest.

    Source: Mann and Whitney 1947, by ranks.
    """
    areas = [_area(np.asarray(labels) == name, scores[name][places]) for name in dict.fromkeys(labels)]
    return np.mean(areas, axis=0)


def _area(positive: Bool[np.ndarray, " n"], scores: Float[np.ndarray, "r n"]) -> Float[np.ndarray, " r"]:
    count, rest = int(positive.sum()), int((~positive).sum())
    if rest == 0:
        return np.full(len(scores), math.nan)
    ranks = stats.rankdata(scores, axis=1)[:, positive].sum(axis=1)
    return (ranks - count * (count + 1) / 2) / (count * rest)


def _recall_interval(answers: pd.DataFrame, measure: str, over_majority: bool, resampling: Resampling) -> Interval:
    correct = (answers["label"] == answers["predicted"]).astype(float)
    guessed = (answers["label"] == _majority(answers)).astype(float)
    if measure == "accuracy":
        lead = sign_interval((correct - guessed).to_numpy())
        return lead if over_majority else share_interval(float(correct.mean()), len(correct))
    values = correct - guessed if over_majority else correct
    strata = [part.to_numpy() for _, part in values.groupby(answers["label"])]
    return stratified_interval(strata, resampling.seed, resampling.resamples)


def _f1_interval(
    answers: pd.DataFrame, classes: Sequence[str], over_majority: bool, resampling: Resampling
) -> Interval:
    confusion = _confusion(answers["label"], answers["predicted"], classes)
    rng = np.random.default_rng(resampling.seed)
    counts = confusion.sum(axis=1).astype(int)
    shares = confusion / np.maximum(counts, 1)[:, None]
    shares[counts == 0, 0] = 1.0  # a class without images draws none of them
    drawn = rng.multinomial(counts, shares, size=(resampling.resamples, len(classes)))
    guess = pd.Series(_majority(answers), index=answers.index)
    null = float(macro_f1(_confusion(answers["label"], guess, classes)[None])[0]) if over_majority else 0.0
    return _shifted(float(macro_f1(confusion[None])[0]), macro_f1(drawn.astype(float)), null)


def _auroc_interval(answers: pd.DataFrame, over_majority: bool, resampling: Resampling) -> Interval:
    labels = list(answers["label"])
    scores = {name: answers[f"p_{name}"].to_numpy(float) for name in dict.fromkeys(labels)}
    value = macro_auroc(labels, scores, np.arange(len(labels))[None])[0]
    resampled = macro_auroc(labels, scores, _drawn_within(labels, resampling))
    return _shifted(float(value), resampled, GUESSED_AUROC if over_majority else 0.0)


def _drawn_within(labels: list[str], resampling: Resampling) -> Int64[np.ndarray, "r n"]:
    """Places drawn with replacement, each from among those of the same label; labels are sorted."""
    rng, places = np.random.default_rng(resampling.seed), pd.Series(range(len(labels))).groupby(labels)
    return np.hstack([rng.choice(part.to_numpy(), (resampling.resamples, len(part))) for _, part in places])


def _shifted(value: float, resampled: Float[np.ndarray, " r"], null: float) -> Interval:
    low, high = np.quantile(resampled, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return float(value - null), float(low - null), float(high - null)


def _confusion(labels: pd.Series, predicted: pd.Series, classes: Sequence[str]) -> Float[np.ndarray, "k k"]:
    table = pd.crosstab(labels, predicted).reindex(index=list(classes), columns=list(classes), fill_value=0)
    return table.to_numpy(float)


def _majority(answers: pd.DataFrame) -> str:
    """The most frequent label; of several, the first by name."""
    return str(answers["label"].mode()[0])
