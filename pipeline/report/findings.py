"""The study's claims, each answered with numbers by a rule that stands in `params.yaml`, apart from the numbers.

A claim comes down to measures (measures.py). It is supported when every measure taken speaks for it, not supported when
any speaks against it, else undecided; what cannot be measured, as localisation on images without masks, has no vote.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline.files import write_text
from pipeline.params import FindingsParams
from pipeline.report.cells import title_of
from pipeline.report.comparisons import predicted_only
from pipeline.report.measures import Measure, Question, Verdict, judged, measured, overall

NAMES = {
    "insertion_gain": "insertion gain",
    "deletion_gain": "deletion gain",
    "pointing_game": "pointing game",
    "mass_ratio": "mass inside the mask",
    "shared_variance": "r² of predicted- and true-class maps",
    "gini": "Gini index",
}


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


def leads(lines: pd.DataFrame, name: str, rules: FindingsParams) -> dict[str, pd.DataFrame]:
    """By how much the claimed pair is ahead of each other pair, on the images that both were scored on."""
    pairs = lines[["model", "method"]].drop_duplicates().itertuples(index=False, name=None)
    values = {pair: per_image(lines[lines["model"] == pair[0]], name, pair[1]) for pair in pairs}
    claimed = values.pop((rules.model, rules.method), None)
    if claimed is None:
        return {}
    return {f"{model} with {title_of(method)}": claimed - other for (model, method), other in values.items()}


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
