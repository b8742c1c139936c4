"""The study's claims, each answered with numbers by a rule that stands in `params.yaml`, apart from the numbers.

A claim comes down to measures: means over images, each with its 95 % interval, a test in pairs and a threshold. One
speaks for the claim where its whole interval lies on the claim's side of the threshold and its p, corrected by Holm for
the measures of the claim, is below alpha; against it where both hold on the other side; it is undecided otherwise, or
on too few images. A claim is supported when every measure taken speaks for it, not supported when any speaks against
it, else undecided; what cannot be measured, as localisation on images without masks, has no vote.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.files import write_text
from pipeline.params import FindingsParams
from pipeline.report.cells import title_of
from pipeline.report.comparisons import predicted_only
from pipeline.seeds import cell_seed
from pipeline.statistics import chance_p, holm, sign_flip_p, two_level_interval, wilcoxon_p

Verdict = Literal["supported", "not supported", "undecided", "not measured"]  # a finding has one of the first three

SIGN_FLIPS = 5  # times the resamples, so that a p corrected for some rivals and measures can still be small
FAR = 50  # times the images that a verdict would need: beyond it, more images are no advice

NAMES = {
    "insertion_gain": "insertion gain",
    "deletion_gain": "deletion gain",
    "pointing_game": "pointing game",
    "mass_ratio": "mass inside the mask",
    "shared_variance": "r² of predicted- and true-class maps",
    "gini": "Gini index",
}


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


@dataclass(frozen=True)
class Finding:
    id: str
    claim: str
    rule: str
    verdict: Verdict
    would_change: str
    measures: tuple[Measure, ...]


def study_findings(evidence: pd.DataFrame, rules: FindingsParams, seed: int) -> list[Finding]:
    """F1 to F4 of the study, in order."""
    return [answer(evidence, rules, seed) for answer in (most_faithful, discriminative, scattered, misclassified)]


def write_findings(findings: Sequence[Finding], report_dir: Path) -> None:
    text = json.dumps([asdict(finding) for finding in findings], indent=2, sort_keys=True, allow_nan=False)
    write_text(report_dir / "findings.json", text + "\n")


def most_faithful(evidence: pd.DataFrame, rules: FindingsParams, seed: int) -> Finding:
    """F1: the claimed pair of model and method against every other pair."""
    pair = f"{rules.model} with {title_of(rules.method)}"
    questions = [
        Question(dataset, f"{NAMES[name]}: lead over the runner-up", threshold, leads(lines, name, rules))
        for dataset, lines in _by_dataset(evidence)
        for name, threshold in rules.F1.items()
    ]
    return conclude(
        "F1",
        "DINO with Grad-CAM is the most faithful and localised.",
        f"Of all pairs of model and method, {pair} leads in {_listed(rules.F1)}: image by image, its mean difference "
        "to each other pair lies above the threshold. The effect shown is the lead over the strongest other pair, its "
        "interval the lowest of all; its p is the largest of all pairs while it leads, and otherwise that of the "
        "strongest pair, corrected for the number of pairs.",
        questions,
        rules,
        seed,
    )


def discriminative(evidence: pd.DataFrame, rules: FindingsParams, seed: int) -> Finding:
    """F2: the claimed method's maps lie on the evidence, and differ with the class asked for."""
    questions = [
        _of_method(dataset, lines, name, threshold, rules.method)
        for dataset, lines in _by_dataset(evidence)
        for name, threshold in rules.F2.items()
    ]
    return conclude(
        "F2",
        "Grad-CAM is class-discriminative and spatially precise.",
        f"Averaged over the models, the highest point and the mass of {title_of(rules.method)} fall inside the mask "
        "more often than the mask's share of the image, which is chance; and on misclassified images, averaged over "
        "the models that erred, its maps for the predicted and for the true class share less of their variance than "
        "the threshold.",
        questions,
        rules,
        seed,
    )


def scattered(evidence: pd.DataFrame, rules: FindingsParams, seed: int) -> Finding:
    """F3: the one method's maps are less concentrated than the other's on the same images."""
    questions = []
    for dataset, lines in _by_dataset(evidence):
        for name, threshold in rules.F3.items():
            sides = [per_image(lines, name, method) for method in (rules.method, rules.scattered_method)]
            title = f"{NAMES[name]}: {title_of(rules.method)} less {title_of(rules.scattered_method)}"
            questions.append(Question(dataset, title, threshold, {"": sides[0] - sides[1]}))
    return conclude(
        "F3",
        "Gradient Attention Rollout is more scattered.",
        f"Averaged over the models, the Gini index of the maps of {title_of(rules.method)} is above that of "
        f"{title_of(rules.scattered_method)} on the same images, both averaged to the coarsest of the methods' grids. "
        "0 is a flat map, 1 a single bright point.",
        questions,
        rules,
        seed,
    )


def misclassified(evidence: pd.DataFrame, rules: FindingsParams, seed: int) -> Finding:
    """F4: on the claimed model's errors the claimed method still points into the mask."""
    questions = []
    for dataset, lines in _by_dataset(evidence):
        wrong = lines[(lines["model"] == rules.model) & ~lines["correct"].astype(bool)]
        for name, threshold in rules.F4.items():
            asked = _of_method(dataset, wrong, name, threshold, rules.method)
            questions.append(replace(asked, name=f"{asked.name}, on errors"))
    return conclude(
        "F4",
        "On misclassified images DINO with Grad-CAM still lights up relevant structures.",
        f"On the images that {rules.model} misclassified, the highest point of its {title_of(rules.method)} map for "
        "the predicted class falls inside the mask more often than the mask's share of the image.",
        questions,
        rules,
        seed,
    )


def conclude(
    id: str, claim: str, rule: str, questions: Sequence[Question], rules: FindingsParams, seed: int
) -> Finding:
    """The claim with the verdict that the answers to its questions add up to."""
    measures = judged([measured(question, rules, seed) for question in questions], rules)
    verdict = overall([each.verdict for each in measures])
    return Finding(id, claim, rule, verdict, _claim_would_change(verdict, measures), tuple(measures))


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


def leads(lines: pd.DataFrame, name: str, rules: FindingsParams) -> dict[str, pd.DataFrame]:
    """By how much the claimed pair is ahead of each other pair, on the images that both were scored on."""
    pairs = lines[["model", "method"]].drop_duplicates().itertuples(index=False, name=None)
    values = {pair: per_image(lines[lines["model"] == pair[0]], name, pair[1]) for pair in pairs}
    claimed = values.pop((rules.model, rules.method), None)
    return (
        {}
        if claimed is None
        else {f"{model} with {title_of(method)}": claimed - other for (model, method), other in values.items()}
    )


def per_image(lines: pd.DataFrame, name: str, method: str) -> pd.DataFrame:
    """Values of a method's maps for the class predicted, averaged over the models: images down, seeds across."""
    chosen = predicted_only(lines[lines["method"] == method])
    return chosen.pivot_table(index="row", columns="seed", values=name, aggfunc="mean", dropna=False)


def _by_dataset(evidence: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The methods' lines of each dataset; the baselines make no claim."""
    return ((str(name), lines) for name, lines in evidence[evidence["is_method"]].groupby("dataset", sort=False))


def _of_method(dataset: str, lines: pd.DataFrame, name: str, threshold: float, method: str) -> Question:
    """What lies inside a mask is held against chance; shared variance is wanted below its threshold."""
    values = per_image(lines, name, method)
    if name == "shared_variance":
        return Question(dataset, NAMES[name], threshold, {"": values}, below=True)
    chance, title = per_image(lines, "chance", method), f"{NAMES[name]} less chance"
    if name == "pointing_game":
        return Question(dataset, title, threshold, {"": values}, chance=chance.mean(axis=1))
    return Question(dataset, title, threshold, {"": values - chance})


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


def _claim_would_change(verdict: Verdict, measures: Sequence[Measure]) -> str:
    """Which measures hold the claim where it is."""
    held = [each for each in measures if each.verdict == verdict]
    if not held:
        return "It could not be measured: images with masks, or the model and method that it names, would be needed."
    names = "; ".join(f"{each.name} on {each.dataset} ({each.would_change})" for each in held)
    if verdict == "supported":
        return f"Any one of these turning: {names}."
    return f"{'All of these turning' if verdict == 'not supported' else 'These becoming decided'}: {names}."


def _listed(names: Iterable[str]) -> str:
    *first, last = [NAMES[name] for name in names]
    return f"{', '.join(first)} and {last}" if first else last
