"""Runs that stand for themselves, with no model version behind them: the report's, and those of pre-trainings."""

import json
import logging
from pathlib import Path

from pipeline import registry, tracking
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.publishing.content import Context, Published, as_text, commit_tag, epochs, flat, hash_of
from pipeline.records import PretrainingReceipt
from pipeline.report.publication import PUBLISHED

log = logging.getLogger(__name__)

STUDY = "study"
PRETRAINING = "pretraining"


def publish_report(client: tracking.MlflowClient, report_dir: Path, context: Context) -> Published:
    """The report's page, tables and figures, with all metrics, as a run; runs of earlier reports stay.

    Raises:
        StudyError: there is no report.
    """
    files = sorted(path for path in report_dir.rglob("*") if path.is_file() and path.name != PUBLISHED)
    return _publish_run(client, STUDY, report_run(report_dir, files, context), hash_of(files, report_dir, {}))


def publish_pretraining(weights: Path, context: Context) -> Published:
    """The pre-training of weights that have a receipt beside them, as a run; runs of earlier weights stay.

    Raises:
        StudyError: the store does not answer, or the weights are not those of the receipt.
    """
    receipt, files = read_pretraining(weights)
    client = tracking.open_store()
    return _publish_run(
        client, PRETRAINING, pretraining_run(receipt, files, context), hash_of(files, weights.parent, {})
    )


def read_pretraining(weights: Path) -> tuple[PretrainingReceipt, list[Path]]:
    """The receipt of the weights, and every file that is published about them."""
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    if sha256_of(weights) != receipt.checkpoint_sha256:
        raise StudyError(f"{weights}: not the file of {weights.stem}.json; `make pretrain` makes both anew")
    files = (weights.with_suffix(suffix) for suffix in (".json", ".md"))
    return receipt, [path for path in files if path.is_file()]


def pretraining_run(receipt: PretrainingReceipt, files: list[Path], context: Context) -> tracking.RunContent:
    """The recipe as parameters, each epoch's measures as curves, the probes as `pbc/knn_accuracy`, the card as note."""
    cards = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".md"]
    plan = receipt.model_dump(include={"arch", "arch_options", "strategy", "seed", "phantom_seed", "sources", "recipe"})
    return tracking.RunContent(
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


def report_run(report_dir: Path, files: list[Path], context: Context) -> tracking.RunContent:
    """All metrics as `busi/dino/gradcam/insertion_auc`, each finding's verdict as a tag."""
    try:
        metrics = json.loads((report_dir / "metrics.json").read_text(encoding="utf-8"))
        findings = json.loads((report_dir / "findings.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{error.filename}: no such file; run `dvc repro report`") from None
    return tracking.RunContent(
        subject=STUDY,
        metrics={key: value for key, value in flat(metrics, "/") if value is not None},
        tags={**{finding["id"]: finding["verdict"] for finding in findings}, **commit_tag(context)},
        artifacts=[(path, _folder_in(report_dir, path)) for path in files],
    )


def _publish_run(
    client: tracking.MlflowClient, experiment_name: str, content: tracking.RunContent, content_hash: str
) -> Published:
    """A run that stands for itself, with no model version behind it."""
    experiment = tracking.experiment_id(client, experiment_name)
    runs = tracking.runs_of(client, experiment, content.subject)
    if run := tracking.run_in_step(runs, content_hash):
        tracking.make_current(client, run.info.run_id, runs, {})
        return Published(content.subject, experiment, run.info.run_id, False)
    run_id = tracking.start_run(client, experiment, content)
    tracking.log_metrics(client, run_id, content)
    tracking.make_current(client, run_id, runs, {})
    tracking.finish_run(client, run_id, content_hash)
    log.info("%s: published", content.subject)
    return Published(content.subject, experiment, run_id, True)


def _folder_in(top: Path, path: Path) -> str:
    folder = path.parent.relative_to(top).as_posix()
    return "" if folder == "." else folder
