"""Runs that stand for themselves, with no model version behind them: the report's, and those of pre-trainings."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import integrity, registry, runs, tracking
from pipeline.errors import StudyError
from pipeline.files import files_under, sha256_of
from pipeline.publishing.content import Context, Published, as_text, commit_tag, epochs, flat
from pipeline.publishing.drift import Drift, listed
from pipeline.records import PretrainingReceipt
from pipeline.report.publication import PUBLISHED

log = logging.getLogger(__name__)

STUDY = "study"
PRETRAINING = "pretraining"


@dataclass(frozen=True)
class OwnRun:
    """A run with no version behind it, and where it stands."""

    experiment: str
    content: runs.RunContent
    models: Sequence[str] = ()  # ids of the logged models that it speaks of, which its page then links to


@tracking.lost_store_named()
def publish_pretraining(weights: Path, context: Context) -> Published:
    """The pre-training of weights that have a receipt beside them, as a run; runs of earlier weights stay.

    Raises:
        UnreachableError: the store does not answer.
        StudyError: the weights are not those of the receipt.
    """
    return publish_run(tracking.open_store(), own_pretraining(weights, context))


def own_pretraining(weights: Path, context: Context) -> OwnRun:
    return OwnRun(PRETRAINING, pretraining_run(*read_pretraining(weights), context))


def read_pretraining(weights: Path) -> tuple[PretrainingReceipt, list[Path]]:
    """The receipt of the weights, and every file that is published about them."""
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    if sha256_of(weights) != receipt.checkpoint_sha256:
        raise StudyError(f"{weights}: not the file of {weights.stem}.json; `make pretrain` makes both anew")
    files = (weights.with_suffix(suffix) for suffix in (".json", ".md"))
    return receipt, [path for path in files if path.is_file()]


def pretraining_run(receipt: PretrainingReceipt, files: list[Path], context: Context) -> runs.RunContent:
    """The recipe as parameters, each epoch's measures as curves, the probes as `pbc/knn_accuracy`, the card as note."""
    cards = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".md"]
    plan = receipt.model_dump(include={"arch", "arch_options", "strategy", "seed", "phantom_seed", "sources", "recipe"})
    return runs.RunContent(
        subject=f"pretrain-{receipt.model}",
        params={key: as_text(value) for key, value in flat(plan, ".")},
        metrics=dict(flat(receipt.probes, "/")),
        history=epochs(receipt.history),
        tags={
            registry.MODEL: receipt.model,
            "strategy": receipt.strategy,
            "labels": receipt.labels,
            registry.CHECKPOINT: receipt.checkpoint_sha256,
            **{f"package/{name}": version for name, version in receipt.packages.items()},
            **commit_tag(context),
            "mlflow.note.content": "".join(cards),
        },
        artifacts=[(path, "") for path in files],
    )


def report_run(report_dir: Path, checkpoints: Mapping[str, str], context: Context) -> runs.RunContent:
    """Page, tables and figures; all metrics as `busi/dino/gradcam/insertion_auc`, each finding's verdict as a tag.

    Args:
        checkpoints: by cell, the hash of the one that the report speaks of; params `checkpoint/busi-dino`.

    Raises:
        StudyError: there is no report.
    """
    try:
        metrics = json.loads((report_dir / "metrics.json").read_text(encoding="utf-8"))
        findings = json.loads((report_dir / "findings.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename}: no such file; run `dvc repro report`") from None
    return runs.RunContent(
        subject=STUDY,
        metrics={key: value for key, value in flat(metrics, "/") if value is not None},
        params={f"checkpoint/{cell}": sha256 for cell, sha256 in checkpoints.items()},
        tags={**{finding["id"]: finding["verdict"] for finding in findings}, **commit_tag(context)},
        artifacts=[(path, _folder_in(report_dir, path)) for path in files_under(report_dir) if path.name != PUBLISHED],
    )


def run_drifts(client: tracking.MlflowClient, own: OwnRun, thorough: bool = False) -> list[Drift]:
    """Where MLflow does not hold the run as it should; looks, and changes nothing."""
    experiment, content = tracking.find_experiment(client, own.experiment), own.content
    found = runs.runs_of(client, experiment, content.subject) if experiment else []
    run = runs.run_holding(found, content.content_hash)
    if run is None:
        return [Drift(content.subject, "run: not in MLflow", "published")]
    faults = {
        "params or metrics edited": runs.edited_values(run, content),
        "tags edited": runs.edited_tags(run, content),
        "files missing or altered": integrity.file_problems(client, run.info.artifact_uri, content.manifest, thorough),
    }
    return [
        Drift(content.subject, f"run: {fault}: {listed(names)}", "written anew")
        for fault, names in faults.items()
        if names
    ]


def publish_run(client: tracking.MlflowClient, own: OwnRun, thorough: bool = False) -> Published:
    """A run that stands for itself; one that was edited or lost files is replaced, and what was found is named."""
    experiment, content = tracking.experiment_id(client, own.experiment), own.content
    found = runs.runs_of(client, experiment, content.subject)
    held, drifts = runs.run_holding(found, content.content_hash), run_drifts(client, own, thorough)
    if held and not drifts:
        runs.make_current(client, held.info.run_id, found, {})
        return Published(content.subject, experiment, held.info.run_id, False)
    repaired = drifts if held else []
    for drift in repaired:
        log.info("%s", drift)
    run_id = runs.start_run(client, experiment, content)
    runs.link_models(client, run_id, own.models)
    runs.log_metrics(client, run_id, content)
    runs.make_current(client, run_id, found, {})
    runs.finish_run(client, run_id, content)
    if held:
        client.delete_run(held.info.run_id)
    log.info("%s: published", content.subject)
    return Published(content.subject, experiment, run_id, True, repaired=tuple(drift.problem for drift in repaired))


def _folder_in(top: Path, path: Path) -> str:
    folder = path.parent.relative_to(top).as_posix()
    return "" if folder == "." else folder
