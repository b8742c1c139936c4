"""The study's four claims, each answered from the files with numbers.

Every claim comes down to measures: means over images whose 95 % bootstrap interval is held against a value that means
"no effect". A measure speaks for the claim when its interval lies wholly on the claim's side, against it when wholly on
the other, and is undecided otherwise or on fewer than MIN_IMAGES images. A claim is supported when every measure taken
speaks for it, not supported when any speaks against it, else undecided; what could not be measured, as localisation on
images without masks, has no vote. All must agree, so the intervals are not corrected for their number.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.files import write_text
from pipeline.report.cells import Cell, twin_of
from pipeline.report.overlays import strength, upsample
from pipeline.seeds import cell_seed
from pipeline.statistics import mean_interval

Verdict = Literal["supported", "not supported", "undecided", "not measured"]  # a finding has one of the first three

MIN_IMAGES = 10  # a bootstrap over fewer images says little
RESAMPLES = 2000
COMMON_SIDE = 56  # maps of different grids are compared on one that 7, 14, 28 and 56 divide
SAME_VARIANCE = 0.5  # r squared: two maps that share more than half of their variance are not told apart by class

CLAIMED_MODEL, CLAIMED_METHOD, SCATTERED_METHOD = "dino", "gradcam", "gradient_rollout"
PerImage = pd.Series  # values by row of the prepared set


@dataclass(frozen=True)
class Measure:
    """One number that bears on a claim; `effect` is a mean over `n` images, `null` the value of no effect."""

    dataset: str
    name: str
    effect: float | None
    low: float | None
    high: float | None
    null: float
    n: int
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class Finding:
    id: str
    claim: str
    rule: str
    verdict: Verdict
    measures: tuple[Measure, ...]


def study_findings(cells: Sequence[Cell], seed: int) -> list[Finding]:
    """F1 to F4 of the study, in order."""
    return [answer(cells, seed) for answer in (most_faithful, discriminative, scattered, misclassified)]


def write_findings(findings: Sequence[Finding], report_dir: Path) -> None:
    text = json.dumps([asdict(finding) for finding in findings], indent=2, sort_keys=True, allow_nan=False)
    write_text(report_dir / "findings.json", text + "\n")


def most_faithful(cells: Sequence[Cell], seed: int) -> Finding:
    """F1: DINO with Grad-CAM against the best other pair of model and method."""
    sources = {
        "insertion gain": lambda cell, method: gain(cell, method, "insertion"),
        "deletion gain": lambda cell, method: gain(cell, method, "deletion"),
        "pointing game": lambda cell, method: pointing(cell, method, "predicted"),
    }
    measures = [
        lead(f"{name}: lead over the runner-up", dataset, group, values_of, seed)
        for dataset, group in by_dataset(cells)
        for name, values_of in sources.items()
    ]
    return conclude(
        "F1",
        "DINO with Grad-CAM is the most faithful and localised.",
        "Of all pairs of model and method, dino with gradcam leads in insertion gain, deletion gain and pointing game. "
        "Each lead is the mean difference, image by image, to the best other pair; its interval must lie above 0.",
        measures,
    )


def discriminative(cells: Sequence[Cell], seed: int) -> Finding:
    """F2: Grad-CAM's maps lie on the evidence, and differ with the class asked for."""
    measures = []
    for dataset, group in by_dataset(cells):
        chance = across_models(pointing(cell, CLAIMED_METHOD, "predicted") - chance_of(cell) for cell in group)
        mass = across_models(
            localised(cell, CLAIMED_METHOD, "predicted", "mass_ratio") - chance_of(cell) for cell in group
        )
        shared = across_models(shared_variance(cell, CLAIMED_METHOD) for cell in group)
        measures += [
            measure(dataset, "pointing game less chance", chance, seed),
            measure(dataset, "mass inside the mask less chance", mass, seed),
            measure(dataset, "r² of predicted- and true-class maps", shared, seed, null=SAME_VARIANCE, below=True),
        ]
    return conclude(
        "F2",
        "Grad-CAM is class-discriminative and spatially precise.",
        "Averaged over the models, gradcam's highest point and its mass fall inside the mask more often than the "
        "mask's share of the image, which is chance; and on misclassified images its maps for the predicted and for "
        "the true class share less than half of their variance.",
        measures,
    )


def scattered(cells: Sequence[Cell], seed: int) -> Finding:
    """F3: rollout's maps are less concentrated than Grad-CAM's on the same images."""
    measures = [
        measure(dataset, "Gini index, gradcam less gradient_rollout", across_models(map(sparseness_lead, group)), seed)
        for dataset, group in by_dataset(cells)
    ]
    return conclude(
        "F3",
        "Gradient Attention Rollout is more scattered.",
        "Averaged over the models, the Gini index of gradcam's maps is above that of gradient_rollout's on the same "
        f"images, both brought to {COMMON_SIDE} x {COMMON_SIDE}. 0 is a flat map, 1 a single bright point.",
        measures,
    )


def misclassified(cells: Sequence[Cell], seed: int) -> Finding:
    """F4: on DINO's errors Grad-CAM still points into the mask."""
    measures = []
    for dataset, group in by_dataset(cells):
        wrong = [_on_errors(cell) for cell in group if cell.model == CLAIMED_MODEL]
        measures.append(measure(dataset, "pointing game less chance, on errors", across_models(wrong), seed))
    return conclude(
        "F4",
        "On misclassified images DINO with Grad-CAM still lights up relevant structures.",
        "On the images that dino misclassified, the highest point of gradcam's map for the predicted class falls "
        "inside the mask more often than the mask's share of the image.",
        measures,
    )


def conclude(id: str, claim: str, rule: str, measures: Sequence[Measure]) -> Finding:
    """The claim with the verdict that its measures add up to."""
    return Finding(id, claim, rule, overall([each.verdict for each in measures]), tuple(measures))


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    if "not supported" in verdicts:
        return "not supported"
    return "supported" if set(verdicts) - {"not measured"} == {"supported"} else "undecided"


def measure(
    dataset: str, name: str, values: PerImage, seed: int, null: float = 0.0, below: bool = False, note: str = ""
) -> Measure:
    """The mean of the values with its interval, and what it says; `below`: the claim wants it under `null`."""
    values = values.dropna()
    if values.empty:
        return Measure(dataset, name, None, None, None, null, 0, "not measured", note or "no image to measure it on")
    if len(values) < MIN_IMAGES:
        return Measure(dataset, name, float(values.mean()), None, None, null, len(values), "undecided", note)
    mean, low, high = mean_interval(values.to_numpy(float), cell_seed(seed, "findings", dataset, name), RESAMPLES)
    return Measure(dataset, name, mean, low, high, null, len(values), judge(low, high, null, below), note)


def judge(low: float, high: float, null: float, below: bool) -> Verdict:
    above_null, below_null = low > null, high < null
    if not (above_null or below_null):
        return "undecided"
    return "supported" if below_null == below else "not supported"


def lead(
    name: str,
    dataset: str,
    cells: Sequence[Cell],
    values_of: Callable[[Cell, str], PerImage],
    seed: int,
) -> Measure:
    """By how much the claimed pair is ahead of the best other pair, on the images that both were scored on."""
    values = {(cell.model, method): values_of(cell, method) for cell in cells for method in cell.explanation.methods}
    claimed = values.pop((CLAIMED_MODEL, CLAIMED_METHOD), pd.Series(dtype=float)).dropna()
    ahead = {pair: (claimed - other).dropna() for pair, other in values.items()}
    ahead = {pair: difference for pair, difference in ahead.items() if len(difference)}
    if not ahead:
        return measure(dataset, name, pd.Series(dtype=float), seed)
    rival = min(ahead, key=lambda pair: (ahead[pair].mean(), pair))
    return measure(dataset, name, ahead[rival], seed, note=f"runner-up: {' with '.join(rival)}")


def gain(cell: Cell, method: str, curve: str) -> PerImage:
    """AUC of the method against the random map of its grid, image by image, signed so that higher is better."""
    aucs = cell.scores[(cell.scores["curve"] == curve) & (cell.scores["target_rule"] == "predicted")]
    by_method = aucs.pivot(index="row", columns="method", values="auc")
    difference = by_method[method] - by_method[twin_of(method, cell.explanation)]
    return difference if curve == "insertion" else -difference


def localised(cell: Cell, method: str, rule: str, column: str) -> PerImage:
    """A column of localisation.csv by image; empty where the dataset has no masks or the study not this method."""
    table = cell.localisation
    chosen = table[(table["method"] == method) & (table["target_rule"] == rule)]
    return chosen.set_index("row")[column].astype(float)


def pointing(cell: Cell, method: str, rule: str) -> PerImage:
    return localised(cell, method, rule, "pointing_hit")


def chance_of(cell: Cell) -> PerImage:
    """Share of the image inside the mask: what a blind guess gets."""
    return localised(cell, CLAIMED_METHOD, "predicted", "mask_fraction")


def shared_variance(cell: Cell, method: str) -> PerImage:
    """r² of the maps for the predicted and the true class of each misclassified image; constant maps are left out."""
    maps, rows = cell.heatmaps, cell.heatmaps.rows["true"]
    if method not in cell.explanation.methods:
        return pd.Series(dtype=float)
    predicted = maps.attributions[f"{method}/predicted"][pd.Index(maps.rows["predicted"]).get_indexer(rows)]
    true = maps.attributions[f"{method}/true"]
    values = [_r_squared(one, other) for one, other in zip(predicted, true, strict=True)]
    return pd.Series(values, index=rows, dtype=float)


def sparseness_lead(cell: Cell) -> PerImage:
    if not {CLAIMED_METHOD, SCATTERED_METHOD} <= set(cell.explanation.methods):
        return pd.Series(dtype=float)
    return sparseness(cell, CLAIMED_METHOD) - sparseness(cell, SCATTERED_METHOD)


def sparseness(cell: Cell, method: str) -> PerImage:
    """Gini index of each image's map for its predicted class."""
    maps = cell.heatmaps.attributions[f"{method}/predicted"]
    values = [gini(upsample(strength(attribution), COMMON_SIDE)) for attribution in maps]
    return pd.Series(values, index=cell.heatmaps.rows["predicted"], dtype=float)


def gini(attribution: Float[np.ndarray, "h w"]) -> float:
    """0 for a flat map, towards 1 for a single bright point, NaN for a blank one.

    Source: Hurley and Rickard 2009, Comparing measures of sparsity; used for explanations by Chalasani et al. 2020.
    """
    ordered = np.sort(attribution, axis=None).astype(np.float64)
    if ordered[-1] <= 0:
        return float("nan")
    ranks = np.arange(1, ordered.size + 1)
    return float(((2 * ranks - ordered.size - 1) * ordered).sum() / (ordered.size * ordered.sum()))


def across_models(values: Iterable[PerImage]) -> PerImage:
    """Mean over the models, image by image: the images stay the units that are resampled."""
    frame = pd.concat([*values, pd.Series(dtype=float)], axis=1)
    return frame.mean(axis=1)


def by_dataset(cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    names = dict.fromkeys(cell.dataset for cell in cells)
    return [(name, [cell for cell in cells if cell.dataset == name]) for name in names]


def _on_errors(cell: Cell) -> PerImage:
    above = pointing(cell, CLAIMED_METHOD, "predicted") - chance_of(cell)
    return above[above.index.isin(cell.heatmaps.rows["true"])]


def _r_squared(one: Float[np.ndarray, "h w"], other: Float[np.ndarray, "h w"]) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1] ** 2)
