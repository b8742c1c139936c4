"""One cell's heatmaps, scored: insertion and deletion curves, localisation, and their means with intervals.

Every map in attributions.npz is scored, the baselines' too, for both target rules. A gain compares a method with the
random map of the same grid on the same image, so that neither the model's confidence nor the grid's fineness counts.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32
from tqdm import tqdm

from pipeline.data.prepared import Prepared, load_prepared, to_tensor
from pipeline.device import resolve_device, set_threads
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_folder
from pipeline.metrics import substrates
from pipeline.metrics.explained import Explained, grid_text, load_explained
from pipeline.metrics.faithfulness import (
    TIE_RULE,
    Predict,
    auc,
    perturbation_curves,
    pixel_counts,
    saliency_ranks,
    see,
    upsampled,
)
from pipeline.metrics.localised import localisation_means, localisation_table
from pipeline.metrics.prediction import scoring
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import ScoreParams, StudyParams
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, ORACLE, Explanation, Receipt, Summary, random_twin
from pipeline.seeds import cell_seed
from pipeline.statistics import mean_interval

logger = logging.getLogger(__name__)

IMAGES_AT_A_TIME = 32  # bounds the memory of a long test set, and is how often progress is told

CurveName = Literal["insertion", "deletion"]
Curves = dict[str, Float32[np.ndarray, "n points"]]  # by `<method>/<rule>/<curve>`
Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Scorer:
    """All that decides the curves of a map."""

    predict: Predict
    prepared: Prepared
    substrates: dict[CurveName, str]
    steps: int
    batch_size: int
    device: torch.device


def score_cell(
    prepared_dir: Path,
    model_dir: Path,
    heatmap_dir: Path,
    score_dir: Path,
    dataset: str,
    model: str,
    params: ScoreParams,
    study: StudyParams,
    progress: Callable[[int, int], None],
) -> Summary:
    """Write scores.csv, localisation.csv, curves.npz, curves_mean.csv and summary.json; the latter is returned.

    Args:
        progress: told how many images are done, and of how many; a misclassified image counts once for each rule.

    Raises:
        StudyError: checkpoint, heatmaps and prepared set do not belong together, or a parameter does not fit them.
    """
    set_threads(study.threads)
    prepared = load_prepared(prepared_dir)
    explanation = _checked_explanation(prepared_dir, prepared, model_dir, heatmap_dir)
    device = resolve_device(study.device)
    classifier, _ = load_checkpoint(model_dir / CHECKPOINT, str(device))
    explained, steps = load_explained(heatmap_dir / ATTRIBUTIONS), _checked_steps(params.steps, prepared)
    substrate_names: dict[CurveName, str] = {
        "insertion": params.insertion_substrate,
        "deletion": params.deletion_substrate,
    }
    logger.info("%s-%s: scoring %d images in %d steps", dataset, model, explanation.images, steps)
    with scoring(classifier, params.precision) as predict:
        scorer = Scorer(predict, prepared, substrate_names, steps, params.batch_size, device)
        curves = _curves(scorer, explained, progress)
    scores = score_table(explained, curves, prepared.index, substrate_names)
    localisation = localisation_table(explained, prepared.masks, params.pointing_tolerance_px)
    summary = _summary(explanation, params, scores, localisation, cell_seed(study.seed, dataset, model))
    _write(score_dir, summary, scores, localisation, curves)
    return summary


def score_table(
    explained: list[Explained], curves: Curves, index: pd.DataFrame, substrate_names: dict[CurveName, str]
) -> pd.DataFrame:
    """scores.csv: one line for each image, target rule, method and curve."""
    about = index.set_index("row")[["file", "label"]]
    predicted = pd.Series(explained[0].targets, index=explained[0].rows)
    parts = []
    for part in explained:
        for method, maps in part.maps.items():
            for curve, substrate in substrate_names.items():
                points = curves[f"{method}/{part.rule}/{curve}"]
                first, last = points[:, 0], points[:, -1]
                columns = {
                    "row": part.rows,
                    "file": about.loc[part.rows, "file"].to_numpy(),
                    "label": about.loc[part.rows, "label"].to_numpy(),
                    "predicted": predicted.loc[part.rows].to_numpy(),
                    "correct": (predicted.loc[part.rows] == about.loc[part.rows, "label"]).to_numpy(),
                    "target_rule": part.rule,
                    "target": part.targets,
                    "method": method,
                    "grid": grid_text(maps),
                    "curve": curve,
                    "substrate": substrate,
                    "steps": points.shape[1] - 1,
                    "auc": auc(torch.from_numpy(points)).numpy(),
                    "probability_full": last if curve == "insertion" else first,
                    "probability_substrate": first if curve == "insertion" else last,
                }
                parts.append(pd.DataFrame(columns).dropna(subset="auc"))
    return pd.concat(parts, ignore_index=True)


def method_metrics(scores: pd.DataFrame, localisation: pd.DataFrame, seed: int, resamples: int) -> Metrics:
    """Means over the images of one target rule by method, with 95 % intervals where there are two images or more.

    A gain is positive where the method does better than the random map of its grid.
    """
    areas = scores.pivot(index="row", columns=["curve", "method"], values="auc")
    metrics: Metrics = {}
    for method, grid in scores.groupby("method", sort=False)["grid"].first().items():
        insertion, deletion = areas["insertion", method].dropna(), areas["deletion", method].dropna()
        values = {"insertion_auc": insertion, "deletion_auc": deletion}
        twin = random_twin(grid, scores.loc[scores["method"] == "random", "grid"].iloc[0])
        if method != twin:
            values["insertion_gain"] = insertion - areas["insertion", twin].loc[insertion.index]
            values["deletion_gain"] = areas["deletion", twin].loc[deletion.index] - deletion
        metrics[str(method)] = _with_intervals(values, seed, resamples) | localisation_means(
            localisation[localisation["method"] == method]
        )
    return metrics


def mean_curves(scores: pd.DataFrame, curves: Curves) -> pd.DataFrame:
    """curves_mean.csv: the mean curve of each method over all images, for the class predicted."""
    parts = []
    for curve, method in scores[["curve", "method"]].drop_duplicates().itertuples(index=False):
        mean = np.asarray(np.nanmean(curves[f"{method}/predicted/{curve}"], axis=0, dtype=np.float64))
        fraction = np.linspace(0, 1, len(mean))
        parts.append(pd.DataFrame({"curve": curve, "method": method, "fraction": fraction, "probability": mean}))
    return pd.concat(parts, ignore_index=True)


def _checked_explanation(prepared_dir: Path, prepared: Prepared, model_dir: Path, heatmap_dir: Path) -> Explanation:
    """The record of the heatmaps, once prepared set, checkpoint and arrays are known to be those it speaks of."""
    receipt, explanation = Receipt.read(model_dir), Explanation.read(heatmap_dir)
    checkpoint, arrays = model_dir / CHECKPOINT, heatmap_dir / ATTRIBUTIONS
    for path in (checkpoint, arrays):
        if not path.is_file():
            raise StudyError(f"{path}: no such file; run `dvc repro` to make it")
    if not sha256_of(checkpoint) == receipt.checkpoint_sha256 == explanation.checkpoint_sha256:
        raise StudyError(f"{checkpoint}: not the checkpoint that {heatmap_dir} explains; run `dvc repro`")
    if sha256_of(arrays) != explanation.attributions_sha256:
        raise StudyError(f"{arrays}: not the arrays of the explanation.json beside it; run `dvc repro -f` to make both")
    if prepared.audit.data_sha256 != explanation.data_sha256:
        raise StudyError(f"{prepared_dir}: not the set whose images {heatmap_dir} explains; run `dvc repro`")
    return explanation


def _checked_steps(steps: int, prepared: Prepared) -> int:
    """The steps a curve will have, see `pixel_counts`."""
    try:
        taken = len(pixel_counts(prepared.audit.image_size_px**2, steps)) - 1
    except ValueError as error:
        raise StudyError(f"score.{error}; lower score.steps") from None
    if taken != steps:
        logger.warning("score.steps: %d equal steps already reach the end in %d; curves have %d", steps, taken, taken)
    return taken


def _blocks(count: int) -> Iterator[slice]:
    return (slice(first, min(first + IMAGES_AT_A_TIME, count)) for first in range(0, count, IMAGES_AT_A_TIME))


def _curves(scorer: Scorer, explained: list[Explained], progress: Callable[[int, int], None]) -> Curves:
    blocks: dict[str, list[Float32[np.ndarray, "n points"]]] = {}
    done, total = 0, sum(len(part.rows) for part in explained)
    with tqdm(total=total, unit="image", disable=None) as bar:
        for part in explained:
            for block in _blocks(len(part.rows)):
                for name, points in _block_curves(scorer, part, block).items():
                    blocks.setdefault(name, []).append(points)
                bar.update(block.stop - block.start)
                done += block.stop - block.start
                progress(done, total)
    return {name: np.concatenate(found) for name, found in blocks.items()}


def _block_curves(scorer: Scorer, part: Explained, block: slice) -> Curves:
    """Curves of all maps of some images; what the model says of images and substrates is asked once for all."""
    images = to_tensor(scorer.prepared.images[part.rows[block]])
    full = see(scorer.predict, images.to(scorer.device), scorer.batch_size)
    # Made on the CPU: a GPU may convolve in TF32, and the substrate is to be the same picture everywhere.
    pictures = {name: substrates.get(name)(images).to(scorer.device) for name in scorer.substrates.values()}
    seen = {name: see(scorer.predict, picture, scorer.batch_size) for name, picture in pictures.items()}
    targets = torch.from_numpy(part.targets[block]).to(scorer.device)
    curves: Curves = {}
    for method, maps in part.maps.items():
        attributions = torch.from_numpy(maps[block]).to(scorer.device)
        ranks = saliency_ranks(upsampled(attributions, (images.shape[2], images.shape[3])))
        for curve, name in scorer.substrates.items():
            start, finish = (seen[name], full) if curve == "insertion" else (full, seen[name])
            points = perturbation_curves(scorer.predict, start, finish, ranks, targets, scorer.steps, scorer.batch_size)
            curves[f"{method}/{part.rule}/{curve}"] = _without_blank_oracles(method, maps[block], points.cpu().numpy())
    return curves


def _without_blank_oracles(
    method: str, maps: Float32[np.ndarray, "n h w"], points: Float32[np.ndarray, "n points"]
) -> Float32[np.ndarray, "n points"]:
    """A mask that an image does not have orders no pixels, so its curve is NaN."""
    if method == ORACLE:
        points[~maps.any(axis=(1, 2))] = np.nan
    return points


def _with_intervals(values: dict[str, pd.Series], seed: int, resamples: int) -> dict[str, float]:
    """Means, with `_low` and `_high` beside them unless there is only one image, which has no interval."""
    metrics: dict[str, float] = {}
    for name, series in values.items():
        mean, low, high = mean_interval(series.to_numpy(dtype=np.float64), seed, resamples)
        metrics |= {name: mean, f"{name}_low": low, f"{name}_high": high}
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _summary(
    explanation: Explanation, params: ScoreParams, scores: pd.DataFrame, localisation: pd.DataFrame, seed: int
) -> Summary:
    predicted = scores[scores["target_rule"] == "predicted"]
    found = localisation[localisation["target_rule"] == "predicted"]
    once = predicted.drop_duplicates(["row", "substrate"])
    return Summary(
        dataset=explanation.dataset,
        model=explanation.model,
        checkpoint_sha256=explanation.checkpoint_sha256,
        data_sha256=explanation.data_sha256,
        attributions_sha256=explanation.attributions_sha256,
        steps=int(scores["steps"].iloc[0]),
        tie_rule=TIE_RULE,
        precision=params.precision,
        insertion_substrate=params.insertion_substrate,
        deletion_substrate=params.deletion_substrate,
        images=explanation.images,
        misclassified=explanation.misclassified,
        localised=found["row"].nunique(),
        pointing_tolerance_px=params.pointing_tolerance_px,
        probability_full=float(predicted.drop_duplicates("row")["probability_full"].mean()),
        probability_substrate={
            str(name): float(value) for name, value in once.groupby("substrate")["probability_substrate"].mean().items()
        },
        metrics=method_metrics(predicted, found, seed, params.bootstrap_resamples),
        metrics_misclassified=_misclassified_metrics(scores, localisation, seed, params.bootstrap_resamples),
    )


def _misclassified_metrics(scores: pd.DataFrame, localisation: pd.DataFrame, seed: int, resamples: int) -> Metrics:
    wrong = scores[~scores["correct"]]
    metrics: Metrics = {}
    for rule, part in wrong.groupby("target_rule"):
        of_rule = localisation[(localisation["target_rule"] == rule) & localisation["row"].isin(part["row"])]
        by_method = method_metrics(part, of_rule, seed, resamples)
        metrics |= {f"{method}/{rule}": values for method, values in by_method.items()}
    return metrics


def _write(score_dir: Path, summary: Summary, scores: pd.DataFrame, localisation: pd.DataFrame, curves: Curves) -> None:
    tables = {"scores": scores, "localisation": localisation, "curves_mean": mean_curves(scores, curves)}
    with whole_folder(score_dir) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n", float_format="%.9g")
        np.savez(folder / "curves.npz", **curves)  # type: ignore[arg-type]  # numpy's stub
        summary.write(folder)
