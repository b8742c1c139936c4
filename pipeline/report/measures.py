"""What a claim turns on: questions to the images' values, and their answers with interval, p and verdict.

A measure is a mean over images with its 95 % interval, a test in pairs and a threshold. It speaks for the claim where
its whole interval lies on the claim's side of the threshold and its p, corrected by Holm for the measures of the claim,
is below alpha; against it where both hold on the other side; it is undecided otherwise, or on too few images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.params import FindingsParams
from pipeline.seeds import cell_seed
from pipeline.statistics import chance_p, holm, sign_flip_p, two_level_interval, wilcoxon_p

Verdict = Literal["supported", "not supported", "undecided", "not measured"]  # a finding has one of the first three

SIGN_FLIPS = 5  # times the resamples, so that a p corrected for some rivals and measures can still be small
FAR = 50  # times the images that a verdict would need: beyond it, more images are no advice


@dataclass(frozen=True)
class Question:
    """What a claim turns on in one dataset: is the mean above the threshold?

    `values` are images down and fine-tuning seeds across, by rival where there are several (the weakest lead counts).
    """

    dataset: str
    name: str
    threshold: float
    values: dict[str, pd.DataFrame]
    below: bool = False  # the claim wants the mean below
    chance: pd.Series | None = None  # of shares: by image, what a blind guess gets, to be taken off


@dataclass(frozen=True)
class Measure:
    """The answer to a question; `null` is the threshold, `n` the images, `p` two-sided, `p_holm` corrected."""

    dataset: str
    name: str
    effect: float | None
    low: float | None
    high: float | None
    null: float
    n: int
    p: float | None
    p_holm: float | None
    verdict: Verdict
    note: str
    would_change: str  # what would make the verdict another one
    below: bool


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    if "not supported" in verdicts:
        return "not supported"
    return "supported" if set(verdicts) - {"not measured"} == {"supported"} else "undecided"


def measured(question: Question, rules: FindingsParams, seed: int) -> Measure:
    """Mean, interval and p of the question; the verdict waits for the other measures of the claim.

    Of several rivals the strongest is shown; the ends are the lowest of all rivals' ends, so that a lead over the
    strongest is not taken for one over a rival that is known less well.
    """
    values = {rival: frame.dropna() for rival, frame in question.values.items()}
    values = {rival: frame for rival, frame in values.items() if len(frame)}
    blank = Measure(
        question.dataset, question.name, None, None, None, question.threshold, 0, None, None, "not measured",
        "no image to measure it on", "", question.below,
    )  # fmt: skip
    if not values:
        return blank
    rival = min(values, key=lambda name: (float(values[name].to_numpy().mean()), name))
    shift = 0.0 if question.chance is None else float(question.chance.loc[values[rival].index].mean())
    effect, images = float(values[rival].to_numpy().mean()) - shift, min(map(len, values.values()))
    found = replace(blank, effect=effect, n=images, note=f"runner-up: {rival}" if rival else "", verdict="undecided")
    if images < rules.min_images:
        return found
    key = cell_seed(seed, "findings", question.dataset, question.name)
    ends = [_ends(frame, question, rules, key) for frame in values.values()]
    low, high = (min(side) - shift for side in zip(*ends, strict=True))
    return replace(found, low=low, high=high, p=_p_of(values, rival, question, rules, key))


def _ends(frame: pd.DataFrame, question: Question, rules: FindingsParams, seed: int) -> tuple[float, float]:
    values, share = frame.to_numpy(float).T, question.chance is not None
    _, low, high = two_level_interval(values, seed, rules.resamples, share=share)
    return low, high


def judged(measures: Sequence[Measure], rules: FindingsParams) -> list[Measure]:
    """The measures of one claim with corrected p-values, verdicts, and what would change them."""
    adjusted = holm(np.array([math.nan if each.p is None else each.p for each in measures], dtype=float))
    ready = [
        replace(each, p_holm=None if math.isnan(p) else float(p)) for each, p in zip(measures, adjusted, strict=True)
    ]
    ready = [replace(each, verdict=judge(each, rules.alpha)) for each in ready]
    return [replace(each, would_change=_would_change(each, rules)) for each in ready]


def judge(measure: Measure, alpha: float) -> Verdict:
    if measure.p_holm is None or measure.low is None or measure.high is None:
        return measure.verdict
    above, under = measure.low > measure.null, measure.high < measure.null
    if measure.p_holm >= alpha or not (above or under):
        return "undecided"
    return "supported" if under == measure.below else "not supported"


def _p_of(
    values: Mapping[str, pd.DataFrame], rival: str, question: Question, rules: FindingsParams, seed: int
) -> float:
    """Leading, that of the least sure lead; behind, that of the strongest rival, corrected for the number of rivals."""
    shifted = {name: frame.mean(axis=1).to_numpy(float) - question.threshold for name, frame in values.items()}
    if question.chance is not None:
        hits, chance = shifted[rival], question.chance.loc[values[rival].index].to_numpy(float)
        return chance_p(hits, chance, seed, SIGN_FLIPS * rules.resamples)
    p_values = np.array([_p(each, rules, seed) for each in shifted.values()])
    leads = all(each.mean() > 0 for each in shifted.values())
    return float(p_values.max() if leads else holm(p_values)[list(shifted).index(rival)])


def _p(values: np.ndarray, rules: FindingsParams, seed: int) -> float:
    if rules.test == "wilcoxon":
        return wilcoxon_p(values)
    return float(sign_flip_p(values[None], seed, SIGN_FLIPS * rules.resamples)[0])


def _would_change(measure: Measure, rules: FindingsParams) -> str:
    if measure.verdict == "not measured" or measure.effect is None:
        return "images with masks, or the model and method that the claim names"
    if measure.low is None or measure.high is None:
        return f"at least {rules.min_images} images to measure it on; here are {measure.n} (explain.max_images)"
    distance = abs(measure.effect - measure.null)
    if measure.verdict == "undecided":
        return _more_images(measure, distance, rules.alpha)
    nearest = measure.low if measure.effect > measure.null else measure.high
    return f"an interval that reaches {measure.null:g}: it misses it by {abs(nearest - measure.null):.3f}"


def _more_images(measure: Measure, distance: float, alpha: float) -> str:
    """How many images would make an interval of the same spread miss the threshold, were the effect the true one."""
    assert measure.low is not None
    assert measure.high is not None
    factor = ((measure.high - measure.low) / 2 / distance) ** 2 if distance else math.inf
    if factor > FAR:
        return f"a clearer effect: this one is next to {measure.null:g}"
    if factor > 1:
        needed = math.ceil(measure.n * factor)
        return f"at least {needed} images (or more seeds), if effect and spread stayed as they are on these {measure.n}"
    return f"more images, for a corrected p below {alpha:g}; here it is {measure.p_holm:.2g}"
