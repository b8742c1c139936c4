"""One cell's heatmaps, scored: insertion and deletion by one or several protocols, localisation, and their means."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float32
from tqdm import tqdm

from pipeline.data.prepared import Prepared, load_prepared
from pipeline.device import resolve_device, set_threads
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_folder
from pipeline.metrics.drawing import Drawn, Subject, calibrate, draw
from pipeline.metrics.engine import ADAPTIVE, Engine, Protocol, check_protocol, steps_taken
from pipeline.metrics.explained import load_explained
from pipeline.metrics.faithfulness import TIE_RULE
from pipeline.metrics.localised import localisation_table
from pipeline.metrics.score_tables import even_points, mean_curves, method_metrics, score_table
from pipeline.metrics.substrates import ANOTHER_IMAGE
from pipeline.models.checkpoint import load_checkpoint
from pipeline.packages import package_versions
from pipeline.params import ProtocolParams, ScoreParams, StudyParams
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, Explanation, Metrics, ProtocolScores, Receipt, Summary
from pipeline.seeds import cell_seed

logger = logging.getLogger(__name__)

MAIN = ""  # the protocol that is no variant


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
    """Write scores.csv, variants.csv, localisation.csv, curves.npz, curves_mean.csv and summary.json.

    Args:
        progress: told how many images are done, and of how many; an image counts once for each rule and protocol.

    Returns:
        What summary.json holds.

    Raises:
        StudyError: checkpoint, heatmaps and prepared set do not belong together, or a parameter does not fit them.
    """
    set_threads(study.threads)
    prepared = load_prepared(prepared_dir)
    explanation = _checked_explanation(prepared_dir, prepared, model_dir, heatmap_dir)
    device = resolve_device(study.device)
    classifier, _ = load_checkpoint(model_dir / CHECKPOINT, str(device))
    subject = Subject(classifier, prepared, load_explained(heatmap_dir / ATTRIBUTIONS), device)
    asked = {MAIN: params.protocol} | {name: params.variant(name) for name in params.variants}
    protocols = {name: _protocol(each, name, subject) for name, each in asked.items()}
    calibration = calibrate(subject)

    logger.info("%s-%s: scoring %d images in %s steps", dataset, model, explanation.images, params.steps)
    done = _adder(progress, subject.rows * len(asked))
    drawn = {}
    for name, protocol in protocols.items():
        temperature = calibration["temperature"] if asked[name].calibrated else 1.0
        engine = Engine(params.precision, temperature, params.batch_size)
        drawn[name] = draw(subject, protocol, engine, done)
    scores = {
        name: score_table(subject.explained, each.curves, prepared.index, each.protocol).assign(
            **_provenance(each, explanation)
        )
        for name, each in drawn.items()
    }
    localisation = localisation_table(subject.explained, prepared.masks, params.pointing_tolerance_px)

    seed = cell_seed(study.seed, dataset, model)
    means = {name: _protocol_scores(drawn[name], scores[name], localisation, seed, params) for name in drawn}
    wrong = _misclassified_metrics(scores[MAIN], localisation, seed, params)
    summary = _summary(explanation, params, calibration, means, wrong, localisation, study.seed)
    tables = {
        "scores": scores[MAIN],
        "variants": _variant_table(scores),
        "localisation": localisation,
        "curves_mean": mean_curves(subject.explained, drawn[MAIN].curves),
    }
    _write(score_dir, summary, tables, _arrays(drawn))
    return summary


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
    if prepared.about.data_sha256 != explanation.data_sha256:
        raise StudyError(f"{prepared_dir}: not the set whose images {heatmap_dir} explains; run `dvc repro`")
    return explanation


def _protocol(asked: ProtocolParams, name: str, subject: Subject) -> Protocol:
    """Refuse what does not fit the images, and say where steps come out fewer than asked."""
    key, side = f"score.variants.{name}." if name else "score.", subject.prepared.about.image_size_px
    protocol = Protocol(**asked.model_dump(exclude={"calibrated"}))
    try:
        check_protocol(protocol, (side, side))
    except StudyError as error:
        raise StudyError(f"{key}{error}") from None
    if ANOTHER_IMAGE in protocol.substrates.values() and len(subject.explained[0].rows) < 2:
        raise StudyError(f"{key}substrates: another_image needs two explained images; raise explain.max_images")
    taken = steps_taken(protocol, (side, side))
    if protocol.steps not in (ADAPTIVE, taken):
        logger.warning("%ssteps: %s equal steps reach the end in %d; curves have %d", key, protocol.steps, taken, taken)
    return protocol


def _adder(progress: Callable[[int, int], None], total: int) -> Callable[[int], None]:
    """Adds up what is done, for a bar and for whoever asked."""
    bar, so_far = tqdm(total=total, unit="image", disable=None), 0

    def done(more: int) -> None:
        nonlocal so_far
        so_far += more
        bar.update(more)  # a bar that is not shown does not count
        progress(so_far, total)

    return done


def _provenance(drawn: Drawn, explanation: Explanation) -> dict[str, str | int | float]:
    """What every line says of itself, so that lines of many cells can stand in one table."""
    return {
        "unit_px": drawn.protocol.unit_px,
        "order": drawn.protocol.order,
        "tie_rule": TIE_RULE,
        "temperature": drawn.temperature,
        "precision": drawn.precision,
        "dataset": explanation.dataset,
        "model": explanation.model,
        "checkpoint_sha256": explanation.checkpoint_sha256,
        "data_sha256": explanation.data_sha256,
        "attributions_sha256": explanation.attributions_sha256,  # explanation.json has layer, settings, versions
    }


def _protocol_scores(
    drawn: Drawn, scores: pd.DataFrame, localisation: pd.DataFrame, seed: int, params: ScoreParams
) -> ProtocolScores:
    predicted, found = (table[table["target_rule"] == "predicted"] for table in (scores, localisation))
    once = predicted.drop_duplicates(["row", "curve"])
    substrates = once.groupby("substrate")["probability_substrate"].mean()
    normalised = once.groupby("curve")["normalised_auc"].count()
    order, resamples = drawn.protocol.order, params.bootstrap_resamples
    return ProtocolScores(
        **asdict(drawn.protocol) | {"steps": int(scores["steps"].iloc[0])},
        adaptive=drawn.protocol.steps == ADAPTIVE,
        temperature=drawn.temperature,
        precision=drawn.precision,
        disagreement=drawn.disagreement,
        passes=drawn.passes,
        probability_full=float(once["probability_full"].mean()),
        probability_substrate={str(name): float(value) for name, value in substrates.items()},
        normalised_images={str(curve): int(count) for curve, count in normalised.items()},
        metrics=method_metrics(predicted, found, seed, resamples, order),
    )


def _misclassified_metrics(scores: pd.DataFrame, localisation: pd.DataFrame, seed: int, params: ScoreParams) -> Metrics:
    wrong = scores[~scores["correct"]]
    metrics: Metrics = {}
    for rule, part in wrong.groupby("target_rule"):
        of_rule = localisation[(localisation["target_rule"] == rule) & localisation["row"].isin(part["row"])]
        by_method = method_metrics(part, of_rule, seed, params.bootstrap_resamples, params.order)
        metrics |= {f"{method}/{rule}": values for method, values in by_method.items()}
    return metrics


def _summary(
    explanation: Explanation,
    params: ScoreParams,
    calibration: dict[str, float],
    means: dict[str, ProtocolScores],
    wrong: Metrics,
    localisation: pd.DataFrame,
    seed: int,
) -> Summary:
    return Summary(
        **means[MAIN].model_dump(),
        dataset=explanation.dataset,
        model=explanation.model,
        checkpoint_sha256=explanation.checkpoint_sha256,
        data_sha256=explanation.data_sha256,
        attributions_sha256=explanation.attributions_sha256,
        tie_rule=TIE_RULE,
        images=explanation.images,
        misclassified=explanation.misclassified,
        localised=localisation.loc[localisation["target_rule"] == "predicted", "row"].nunique(),
        pointing_tolerance_px=params.pointing_tolerance_px,
        calibration=calibration,
        metrics_misclassified=wrong,
        variants={name: scores for name, scores in means.items() if name != MAIN},
        seed=seed,
        packages=package_versions(),
    )


def _variant_table(scores: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """variants.csv: the lines of every variant under its name; only the header where there are none."""
    if len(scores) == 1:
        return scores[MAIN].iloc[:0].assign(variant="")
    return pd.concat([table.assign(variant=name) for name, table in scores.items() if name != MAIN], ignore_index=True)


def _arrays(drawn: dict[str, Drawn]) -> dict[str, Float32[np.ndarray, "n points"]]:
    """curves.npz: `<method>/<rule>/<curve>`, those of a variant after `variants/<name>/`."""
    prefixes = {name: f"variants/{name}/" if name else "" for name in drawn}
    return {
        f"{prefixes[name]}{key}": even_points(curves)
        for name, each in drawn.items()
        for key, curves in each.curves.items()
    }


def _write(
    score_dir: Path,
    summary: Summary,
    tables: dict[str, pd.DataFrame],
    arrays: dict[str, Float32[np.ndarray, "n points"]],
) -> None:
    with whole_folder(score_dir) as folder:
        for name, table in tables.items():
            table.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n", float_format="%.9g")
        np.savez(folder / "curves.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub
        summary.write(folder)
