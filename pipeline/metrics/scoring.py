"""One cell's heatmaps, scored: insertion and deletion by one or several protocols, localisation, and their means."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from pipeline.device import set_threads, settled_device
from pipeline.errors import StudyError
from pipeline.files import whole_folder
from pipeline.keys import key_of
from pipeline.metrics.drawing import Drawn, Job, Subject, calibrate, checked_explanation, draw, load_subject
from pipeline.metrics.engine import ADAPTIVE, Engine, Protocol, check_protocol, steps_taken
from pipeline.metrics.faithfulness import TIE_RULE
from pipeline.metrics.localised import localisation_table
from pipeline.metrics.score_tables import even_points, mean_curves, method_metrics, score_table
from pipeline.metrics.substrates import ANOTHER_IMAGE
from pipeline.packages import package_versions
from pipeline.params import ProtocolParams, ScoreParams, StudyParams
from pipeline.records import Explanation, Metrics, ProtocolScores, Summary
from pipeline.seeds import cell_seed
from pipeline.shards import IN_MEMORY, Scratch, Shards, adder

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
    scratch: Scratch = IN_MEMORY,
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
    explanation = checked_explanation(prepared_dir, model_dir, heatmap_dir)
    hashes = explanation.checkpoint_sha256, explanation.attributions_sha256
    job = Job(prepared_dir, model_dir, heatmap_dir, settled_device(study.device), study.threads, *hashes)
    subject = load_subject(job if scratch.is_here else replace(job, device="cpu"))
    prepared, explained = subject.prepared, subject.explained
    asked = {MAIN: params.protocol} | {name: params.variant(name) for name in params.variants}
    protocols = {name: _protocol(each, name, subject) for name, each in asked.items()}
    shards = Shards(scratch, _key(job, explanation, params))
    calibration = calibrate(shards, job, prepared)

    logger.info("%s-%s: scoring %d images in %s steps", dataset, model, explanation.images, params.steps)
    done = adder(progress, sum(len(part.rows) for part in explained) * len(asked), "image")
    drawn = {}
    for name, protocol in protocols.items():
        temperature = calibration["temperature"] if asked[name].calibrated else 1.0
        engine = Engine(params.precision, temperature, params.batch_size)
        drawn[name] = draw(shards, job, explained, name, protocol, engine, done)
    scores = {
        name: score_table(explained, each.curves, prepared.index, each.protocol).assign(
            **_provenance(each, explanation)
        )
        for name, each in drawn.items()
    }
    localisation = localisation_table(explained, prepared.masks, params.pointing_tolerance_px)

    seed = cell_seed(study.seed, dataset, model)
    means = {name: _protocol_scores(drawn[name], scores[name], localisation, seed, params) for name in drawn}
    wrong = _misclassified_metrics(scores[MAIN], localisation, seed, params)
    summary = _summary(explanation, params, calibration, means, wrong, localisation, study.seed)
    tables = {
        "scores": scores[MAIN],
        "variants": _variant_table(scores),
        "localisation": localisation,
        "curves_mean": mean_curves(explained, drawn[MAIN].curves),
    }
    _write(score_dir, summary, tables, _arrays(drawn))
    shards.clear()
    load_subject.cache_clear()
    return summary


def _key(job: Job, explanation: Explanation, params: ScoreParams) -> str:
    """Of all that decides the curves."""
    return key_of(
        {
            "checkpoint": job.checkpoint_sha256,
            "attributions": job.attributions_sha256,
            "data": explanation.data_sha256,
            "params": params.model_dump(mode="json"),
            "device": torch.device(job.device).type,
            "threads": job.threads,
        }
    )


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
