"""One cell's explanations, put to the trust checks: which class, which image, which weights do they depend on?

Some of the images that were explained for their predicted class are explained again: for the runner-up, mirrored,
under faint noise, and by the model as it forgets its weights from the head downwards. Where masks tell what is
evidence, a place beside it that decides predictions is searched for. The files, trust.csv, shortcut.csv and trust.json,
lie beside the cell's scores.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pipeline.data.prepared import Prepared, load_prepared, to_tensor
from pipeline.device import resolve_device, set_threads
from pipeline.explain import explain_batch
from pipeline.files import write_text
from pipeline.metrics.explained import Explained, load_explained
from pipeline.metrics.trust import concentration, stability, tokens
from pipeline.metrics.trust.randomisation import randomised_similarity
from pipeline.metrics.trust.shortcut_cell import check_shortcut
from pipeline.metrics.trust.similarity import Explain, Scores, spearman
from pipeline.models.build import Classifier
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import MethodParams, StudyParams
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, Explanation, Shortcut, Trust
from pipeline.seeds import cell_seed

Checks = dict[str, Scores]  # check -> method -> a value for each image


@dataclass(frozen=True)
class Subject:
    """The images looked at, the classes their maps explain, and those maps by method, on native grids."""

    rows: Int64[np.ndarray, " n"]
    images: Float[Tensor, "n 3 h w"]
    targets: Int64[Tensor, " n"]
    maps: dict[str, Float[Tensor, "n _ _"]]


def check_cell(
    prepared_dir: Path,
    model_dir: Path,
    heatmap_dir: Path,
    score_dir: Path,
    num_images: int,
    batch_size: int,
    study: StudyParams,
    progress: Callable[[int, int], None],
) -> Trust:
    """Write trust.csv, shortcut.csv and trust.json beside the scores of the same heatmaps; the latter is returned.

    Args:
        num_images: how many of the explained images are looked at, spread evenly over them.
        batch_size: images explained at a time.
        progress: told how many groups of checks are done, and of how many.
    """
    set_threads(study.threads)
    device, explanation = resolve_device(study.device), Explanation.read(heatmap_dir)
    classifier, _ = load_checkpoint(model_dir / CHECKPOINT, str(device))
    prepared, explained = load_prepared(prepared_dir), load_explained(heatmap_dir / ATTRIBUTIONS)
    subject = _subject(prepared, explained[0], explanation.methods, num_images, device)
    explain = _explainer(classifier.eval(), explanation, batch_size)
    seed = cell_seed(study.seed, explanation.dataset)

    groups: list[Callable[[], Checks]] = [
        partial(concentration_checks, subject.maps),
        partial(token_checks, classifier, subject),
        partial(stability_checks, classifier, explain, subject, seed),
        partial(randomisation_checks, classifier, explain, subject, seed),
    ]
    checks: Checks = {}
    for done, group in enumerate(groups):
        progress(done, len(groups) + 1)
        checks |= group()
    progress(len(groups), len(groups) + 1)
    methods_only = replace(explained[0], maps={name: explained[0].maps[name] for name in explanation.methods})
    shortcut, images = check_shortcut(classifier, explain, prepared, methods_only, seed, batch_size)
    progress(len(groups) + 1, len(groups) + 1)
    trust = _record(explanation, subject, checks, chance_of(classifier, subject), shortcut, study.seed)
    _write_table(score_dir / "trust.csv", trust_table(subject.rows, checks))
    _write_table(score_dir / "shortcut.csv", images)
    trust.write(score_dir)
    return trust


def concentration_checks(maps: dict[str, Float[Tensor, "n _ _"]]) -> Checks:
    """How scattered each map is, on the coarsest of the methods' grids: a fine map could be sharper for its grid alone.

    The border is the native grid's, so that the ring is one of tokens.
    """
    coarsest = min(((map_.shape[1], map_.shape[2]) for map_ in maps.values()), key=lambda grid: grid[0] * grid[1])
    common = {method: functional.adaptive_avg_pool2d(map_, coarsest) for method, map_ in maps.items()}
    return {
        "gini": {method: concentration.gini(map_) for method, map_ in common.items()},
        "entropy": {method: concentration.entropy(map_) for method, map_ in common.items()},
        "half_mass_area": {method: concentration.half_mass_area(map_) for method, map_ in common.items()},
        "border_mass": {method: concentration.border_mass(map_) for method, map_ in maps.items()},
    }


def token_checks(classifier: Classifier, subject: Subject) -> Checks:
    """How much of each map lies on tokens whose norm breaks out."""
    outliers = tokens.outlier_tokens(tokens.last_tokens(classifier, subject.images))
    coarser = {method: map_ for method, map_ in subject.maps.items() if map_.shape[1] >= outliers.shape[1]}
    return {"outlier_mass": {method: tokens.outlier_mass(map_, outliers) for method, map_ in coarser.items()}}


def chance_of(classifier: Classifier, subject: Subject) -> dict[str, dict[str, float]]:
    """By method, what a flat map would score."""
    outliers = tokens.outlier_tokens(tokens.last_tokens(classifier, subject.images)).double().mean().item()
    return {
        method: {"border_mass": concentration.border_share((map_.shape[1], map_.shape[2])), "outlier_mass": outliers}
        for method, map_ in subject.maps.items()
    }


def stability_checks(classifier: Classifier, explain: Explain, subject: Subject, seed: int) -> Checks:
    """How alike the maps stay for another class, for the mirrored and for the noisy image."""
    images, targets, maps = subject.images, subject.targets, subject.maps
    with torch.inference_mode():
        logits = classifier(images).clone()
    return {
        "class_similarity": stability.class_similarity(explain, images, targets, logits, maps),
        "flip_similarity": stability.flip_similarity(explain, images, targets, maps),
        "noise_similarity": stability.noise_similarity(explain, images, targets, maps, subject.rows, seed),
    }


def randomisation_checks(classifier: Classifier, explain: Explain, subject: Subject, seed: int) -> Checks:
    """How alike the maps stay while the model forgets, stage by stage from the head downwards."""
    stages = randomised_similarity(
        classifier, explain, subject.images, subject.targets, subject.maps, {"spearman": spearman}, seed
    )
    return {f"randomised/{stage}": measures["spearman"] for stage, measures in stages.items()}


def trust_table(rows: Int64[np.ndarray, " n"], checks: Checks) -> pd.DataFrame:
    """One line for each image, method and check; an undefined value is empty."""
    parts = [
        pd.DataFrame({"row": rows, "method": method, "check": check, "value": values.cpu().numpy()})
        for check, scores in checks.items()
        for method, values in scores.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _write_table(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, float_format="%.9g"))


def _subject(
    prepared: Prepared, part: Explained, methods: tuple[str, ...], num_images: int, device: torch.device
) -> Subject:
    chosen = np.unique(np.linspace(0, len(part.rows) - 1, min(num_images, len(part.rows))).round().astype(int))
    rows = part.rows[chosen]
    return Subject(
        rows,
        to_tensor(prepared.pixels(rows)).to(device),
        torch.from_numpy(part.targets[chosen]).to(device),
        {name: torch.from_numpy(part.maps[name][chosen]).to(device) for name in methods},
    )


def _explainer(classifier: Classifier, explanation: Explanation, batch_size: int) -> Explain:
    settings = MethodParams.model_validate(explanation.settings)

    def explain(
        images: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, " n"]
    ) -> dict[str, Float[Tensor, "n rows columns"]]:
        batches = zip(images.split(batch_size), targets.split(batch_size), strict=True)
        parts = [explain_batch(classifier, *batch, explanation.methods, settings) for batch in batches]
        return {method: torch.cat([part[method] for part in parts]) for method in explanation.methods}

    return explain


def _record(
    explanation: Explanation,
    subject: Subject,
    checks: Checks,
    chance: dict[str, dict[str, float]],
    shortcut: Shortcut | None,
    seed: int,
) -> Trust:
    means: dict[str, dict[str, float]] = {method: {} for method in explanation.methods}
    undefined: dict[str, dict[str, int]] = {method: {} for method in explanation.methods}
    for check, scores in checks.items():
        for method, values in scores.items():
            if missing := int(values.isnan().sum()):
                undefined[method][check] = missing
            if missing < len(values):
                means[method][check] = float(values.nanmean())
    return Trust(
        dataset=explanation.dataset,
        model=explanation.model,
        checkpoint_sha256=explanation.checkpoint_sha256,
        attributions_sha256=explanation.attributions_sha256,
        images=len(subject.rows),
        chance=chance,
        metrics=means,
        undefined=undefined,
        shortcut=shortcut,
        seed=seed,
    )
