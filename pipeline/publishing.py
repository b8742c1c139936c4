"""Brings MLflow in step with the study's files: one run and one model version per cell, one run for the report.

Everything is keyed by hashes of content, so publishing twice writes once, and publishing into an empty store rebuilds
it. Nothing here decides anything; nothing of the study reads it back.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline import registry, tracking
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.params import Params
from pipeline.records import CHECKPOINT, Audit, PretrainingReceipt
from pipeline.report.cells import Cell, load_cell, title_of

log = logging.getLogger(__name__)

FORMAT = 1  # goes into every content hash: raise it when what is published changes, and all is published anew
STUDY = "study"
PRETRAINING = "pretraining"
DIGEST_LENGTH = 32  # MLflow allows 36

# Columns of a version's table; a number that has a 95 % interval is shown with it.
TABLE_COLUMNS = {
    "insertion_auc": "insertion AUC ↑",
    "deletion_auc": "deletion AUC ↓",
    "insertion_gain": "insertion gain ↑",
    "deletion_gain": "deletion gain ↑",
    "pointing_game": "pointing game ↑",
    "mass_ratio": "mass ratio ↑",
}


@dataclass(frozen=True)
class Context:
    """What a run tells about where its files came from, beyond the files."""

    git_commit: str | None = None
    dvc_lock: Path | None = None  # read for the hash that DVC gives the prepared data


@dataclass(frozen=True)
class Published:
    """Where a cell, or the report, is found in MLflow; `created` is False where it was in step already."""

    run_id: str
    created: bool
    model_name: str | None = None  # None for the report
    version: str | None = None


@dataclass(frozen=True)
class CellFiles:
    data_dir: Path
    dataset: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.model}"

    @property
    def prepared(self) -> Path:
        return self.data_dir / "prepared" / self.dataset

    @property
    def trained(self) -> Path:
        return self.data_dir / "models" / self.dataset / self.model

    @property
    def explained(self) -> Path:
        return self.data_dir / "heatmaps" / self.dataset / self.model

    @property
    def scored(self) -> Path:
        return self.data_dir / "scores" / self.dataset / self.model

    def all(self) -> list[Path]:
        """Every file that decides what is published about the cell, in a fixed order."""
        folders = (self.trained, self.explained, self.scored)
        files = (path for folder in folders for path in folder.rglob("*") if path.is_file())
        return sorted([self.prepared / Audit.file_name, *files])


def publish_study(data_dir: Path, params: Params, context: Context) -> list[Published]:
    """Every cell of the study, then its report; creates the store if there is none.

    Raises:
        StudyError: the store does not answer, or a cell's files are absent, damaged or do not belong together.
    """
    client = tracking.open_store()
    published = []
    for dataset in params.study.datasets:
        for model in params.study.models:
            cell = CellFiles(data_dir, dataset, model)
            published.append(publish_cell(client, cell, cell_params(params, dataset, model), context))
    for weights in {params.models[model].weights: None for model in params.study.models}:
        if Path(weights).with_suffix(".json").is_file():
            publish_pretraining(Path(weights), context)
    return [*published, publish_report(client, data_dir / "report", context)]


def publish_cell(
    client: tracking.MlflowClient, files: CellFiles, params: Mapping[str, str], context: Context
) -> Published:
    """One cell. Its earlier run is replaced if only scores changed; a new checkpoint makes a new model version.

    Raises:
        StudyError: the cell's files are absent, damaged or do not belong together.
    """
    cell = read_cell(files)
    content_hash = hash_of(files.all(), files.data_dir, params)
    content = version_content(cell, content_hash, run_link=None)
    name = f"{files.dataset}-classifier"
    experiment = tracking.experiment_id(client, files.dataset)
    runs = tracking.runs_of(client, experiment, files.name)
    run = tracking.run_in_step(runs, content_hash)
    version = registry.find_version(client, name, content.identity)
    if run and version and _version_in_step(client, version, content_hash):
        tracking.make_current(client, run.info.run_id, runs, content.identity)
        log.info("%s: in step (version %s of %s)", files.name, version.version, name)
        return Published(run.info.run_id, False, name, str(version.version))

    run_content = cell_run(files, cell, params, context)
    run_id = tracking.start_run(client, experiment, run_content)
    content = version_content(cell, content_hash, run_link=(experiment, run_id))
    model_id = registry.ensure_logged_model(
        client, experiment, run_id, content, lambda model, folder: _save(model, folder, files), _model_is_whole
    )
    tracking.link_model(client, run_id, model_id)
    tracking.log_metrics(client, run_id, run_content, model_id)
    registry.ensure_registered_model(client, registered_model(name, cell))
    number = registry.ensure_version(client, name, run_id, model_id, content)
    tracking.make_current(client, run_id, runs, content.identity)
    tracking.finish_run(client, run_id, content_hash)
    log.info("%s: published as version %s of %s", files.name, number, name)
    return Published(run_id, True, name, number)


def publish_report(client: tracking.MlflowClient, report_dir: Path, context: Context) -> Published:
    """The report's page, tables and figures, with all metrics, as a run; runs of earlier reports stay.

    Raises:
        StudyError: there is no report.
    """
    files = sorted(path for path in report_dir.rglob("*") if path.is_file())
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


def _publish_run(
    client: tracking.MlflowClient, experiment_name: str, content: tracking.RunContent, content_hash: str
) -> Published:
    """A run that stands for itself, with no model version behind it."""
    experiment = tracking.experiment_id(client, experiment_name)
    runs = tracking.runs_of(client, experiment, content.subject)
    if run := tracking.run_in_step(runs, content_hash):
        tracking.make_current(client, run.info.run_id, runs, {})
        return Published(run.info.run_id, False)
    run_id = tracking.start_run(client, experiment, content)
    tracking.log_metrics(client, run_id, content)
    tracking.make_current(client, run_id, runs, {})
    tracking.finish_run(client, run_id, content_hash)
    log.info("%s: published", content.subject)
    return Published(run_id, True)


def read_cell(files: CellFiles) -> Cell:
    """The cell's records, checked against each other, the checkpoint and the prepared data."""
    cell = load_cell(files.data_dir, files.dataset, files.model)
    checkpoint = files.trained / CHECKPOINT
    if not checkpoint.is_file() or sha256_of(checkpoint) != cell.receipt.checkpoint_sha256:
        raise StudyError(f"{checkpoint}: not the file of its receipt; run `dvc repro finetune@{files.name}`")
    audit = Audit.read(files.prepared)
    if audit.data_sha256 != cell.receipt.data_sha256:
        raise StudyError(f"{files.prepared}: not the data of {files.name}; run `dvc repro score@{files.name}`")
    return cell


def read_pretraining(weights: Path) -> tuple[PretrainingReceipt, list[Path]]:
    """The receipt of the weights, and every file that is published about them."""
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    if sha256_of(weights) != receipt.checkpoint_sha256:
        raise StudyError(f"{weights}: not the file of {weights.stem}.json; `make pretrain` makes both anew")
    files = (weights.with_suffix(suffix) for suffix in (".json", ".md"))
    return receipt, [path for path in files if path.is_file()]


def hash_of(files: list[Path], folder: Path, params: Mapping[str, str]) -> str:
    """SHA-256 over the names and contents of the files, and the params."""
    content = [FORMAT, sorted(params.items())]
    content += [(path.relative_to(folder).as_posix(), sha256_of(path)) for path in files]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def cell_params(params: Params, dataset: str, model: str) -> dict[str, str]:
    """The part of params.yaml that a cell depends on, under flat keys: `finetune.augmentation.hue`."""
    whole = params.model_dump()
    sections = {
        "study": {key: whole["study"][key] for key in ("seed", "device", "threads")},
        "dataset": {"name": dataset, **whole["datasets"][dataset]},
        "model": {"name": model, **whole["models"][model]},
        **{name: whole[name] for name in ("preprocess", "finetune", "explain", "score")},
    }
    if params.datasets[dataset].source == "phantom":
        sections["phantom"] = {"seed": params.phantom.seed, **whole["phantom"][dataset]}
    return {key: _as_text(value) for key, value in _flat(sections, ".")}


def cell_run(files: CellFiles, cell: Cell, params: Mapping[str, str], context: Context) -> tracking.RunContent:
    receipt = cell.receipt
    misclassified = _flat({"misclassified": cell.summary.metrics_misclassified}, "/")
    recall = {f"test/recall/{name}": value for name, value in cell.classification.recall.items()}
    tags = {
        **identity_tags(cell),
        **{f"package/{name}": version for name, version in receipt.packages.items()},
        **_commit_tag(context),
        "mlflow.note.content": description(cell, None),
    }
    return tracking.RunContent(
        subject=files.name,
        params=params,
        metrics=cell_metrics(cell) | recall | dict(misclassified),
        history=_history(cell),
        tags=tags,
        artifacts=list(_artifacts(files)),
        dataset=_dataset_ref(files, context.dvc_lock),
    )


def pretraining_run(receipt: PretrainingReceipt, files: list[Path], context: Context) -> tracking.RunContent:
    """The recipe as parameters, each epoch's measures as curves, the probes as `pbc/knn_accuracy`, the card as note."""
    cards = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".md"]
    plan = receipt.model_dump(include={"arch", "arch_options", "strategy", "seed", "phantom_seed", "sources", "recipe"})
    return tracking.RunContent(
        subject=f"pretrain-{receipt.model}",
        params={key: _as_text(value) for key, value in _flat(plan, ".")},
        metrics=dict(_flat(receipt.probes, "/")),
        history=_epochs(receipt.history),
        tags={
            registry.MODEL: receipt.model,
            "strategy": receipt.strategy,
            "labels": receipt.labels,
            registry.CHECKPOINT: receipt.checkpoint_sha256,
            **{f"package/{name}": version for name, version in receipt.packages.items()},
            **_commit_tag(context),
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
        metrics={key: value for key, value in _flat(metrics, "/") if value is not None},
        tags={**{finding["id"]: finding["verdict"] for finding in findings}, **_commit_tag(context)},
        artifacts=[(path, _folder_in(report_dir, path)) for path in files],
    )


def version_content(cell: Cell, content_hash: str, run_link: tuple[str, str] | None) -> registry.VersionContent:
    """`run_link` is the experiment and the run that the description points to."""
    told = ("test", *cell.explanation.methods)  # the run and the logged model have the baselines too
    metrics = {key: f"{value:.4f}" for key, value in cell_metrics(cell).items() if key.split("/")[0] in told}
    tags = {tracking.CONTENT_HASH: content_hash, **identity_tags(cell), **metrics}
    return registry.VersionContent(tags, description(cell, run_link))


def identity_tags(cell: Cell) -> dict[str, str]:
    receipt = cell.receipt
    return {
        registry.MODEL: receipt.model,
        "dataset": receipt.dataset,
        "arch": receipt.arch,
        "weights": receipt.weights,
        registry.CHECKPOINT: receipt.checkpoint_sha256,
        "data_hash": receipt.data_sha256,
    }


def registered_model(name: str, cell: Cell) -> registry.RegisteredModel:
    from pipeline.data import get  # here: not needed where all is in step

    spec = get(cell.dataset)
    text = f"Classifiers of {spec.title}, one version per checkpoint, each with the scores of its explanations."
    return registry.RegisteredModel(name, text, {"title": spec.title, "classes": ", ".join(cell.receipt.classes)})


def cell_metrics(cell: Cell) -> dict[str, float]:
    """`test/accuracy`, `gradcam/insertion_auc`, ..."""
    checks = {f"{method}/trust": found for method, found in cell.trust.metrics.items()}
    variants = {
        f"{method}/{name}": found
        for name, each in cell.summary.variants.items()
        for method, found in each.metrics.items()
    }
    return dict(_flat({"test": cell.classification.test, **cell.summary.metrics, **variants, **checks}, "/"))


def description(cell: Cell, run_link: tuple[str, str] | None) -> str:
    """Markdown: what the model is, how well it classifies, how faithful and localised each of its explanations is."""
    receipt, summary = cell.receipt, cell.summary
    scores = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in cell.classification.test.items())
    lines = [
        f"**{cell.dataset} / {cell.model}**: {receipt.arch}, weights {receipt.weights}",
        "",
        f"Test ({cell.classification.images} images): {scores}",
        "",
        *_table(summary.metrics),
        "",
        f"{summary.images} images, {summary.steps} steps{' (adaptive)' if summary.adaptive else ''}; "
        f"insertion from {summary.insertion_substrate}, deletion to {summary.deletion_substrate}; "
        "gains are over a random map of the same grid; 95 % intervals.",
    ]
    if run_link:
        experiment, run_id = run_link
        lines += ["", f"[Run with params, curves and overlays](#/experiments/{experiment}/runs/{run_id})"]
    return "\n".join(lines)


def _table(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    columns = [name for name in TABLE_COLUMNS if any(name in found for found in metrics.values())]
    rows = [[title_of(method), *(_with_interval(found, name) for name in columns)] for method, found in metrics.items()]
    header = ["method", *(TABLE_COLUMNS[name] for name in columns)]
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _with_interval(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return ""
    ends = [metrics.get(f"{name}_{end}") for end in ("low", "high")]
    interval = "" if None in ends else f" ({ends[0]:.3f} to {ends[1]:.3f})"
    return f"{metrics[name]:.3f}{interval}"


def _history(cell: Cell) -> list[tuple[str, int, float]]:
    """Every column of history.csv, epoch by epoch."""
    return _epochs(cell.history.to_dict(orient="records"))


def _epochs(rows: Iterable[Mapping[Any, float | int]]) -> list[tuple[str, int, float]]:
    return [(str(name), int(row["epoch"]), float(row[name])) for row in rows for name in row if name != "epoch"]


def _artifacts(files: CellFiles) -> Iterator[tuple[Path, str]]:
    """What can be looked at; weights go to the logged model, heatmap arrays stay where they are."""
    yield files.prepared / Audit.file_name, ""
    for name in ("receipt.json", "classification.json", "predictions.csv", "history.csv"):
        yield files.trained / name, ""
    for name in (
        "summary.json",
        "scores.csv",
        "variants.csv",
        "localisation.csv",
        "curves_mean.csv",
        "trust.json",
        "trust.csv",
    ):
        yield files.scored / name, ""
    yield files.explained / "explanation.json", ""
    for path in sorted((files.explained / "overlays").glob("*")):
        yield path, "overlays"
    for path in sorted((files.data_dir / "report" / "figures").glob(f"{files.dataset}_*.png")):
        yield path, "figures"


def _dataset_ref(files: CellFiles, dvc_lock: Path | None) -> tracking.DatasetRef:
    audit = Audit.read(files.prepared)
    md5 = data_md5(dvc_lock, files.prepared) if dvc_lock else None
    profile = {"images": audit.images, "classes": audit.images_per_class, "splits": audit.images_per_split}
    return tracking.DatasetRef(
        name=files.dataset,
        digest=audit.data_sha256[:DIGEST_LENGTH],
        source=json.dumps({"path": f"data/prepared/{files.dataset}", "data_sha256": audit.data_sha256, "dvc_md5": md5}),
        profile=json.dumps(profile),
        tags={"mlflow.data.context": "test", **({"dvc_md5": md5} if md5 else {})},
    )


def data_md5(dvc_lock: Path, folder: Path) -> str | None:
    """The hash under which DVC keeps the folder; None where the lock file does not know it."""
    if not dvc_lock.is_file():
        return None
    stages = (yaml.safe_load(dvc_lock.read_text(encoding="utf-8")) or {}).get("stages", {})
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    paths = {(dvc_lock.parent / out["path"]).resolve(): out.get("md5") for out in outs}
    return paths.get(folder.resolve())


def _version_in_step(client: tracking.MlflowClient, version: registry.ModelVersion, content_hash: str) -> bool:
    in_step = version.tags.get(tracking.CONTENT_HASH) == content_hash
    return in_step and _model_is_whole(registry.logged_model_of(client, version))


def _model_is_whole(model: registry.LoggedModel) -> bool:
    return tracking.artifacts_exist(model.artifact_location)


def _save(model: registry.LoggedModel, folder: Path, files: CellFiles) -> None:
    from pipeline.serving import save_servable  # here: it imports torch, which is not needed where all is in step

    save_servable(model, files.trained, folder)


def _as_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _commit_tag(context: Context) -> dict[str, str]:
    return {"mlflow.source.git.commit": context.git_commit} if context.git_commit else {}


def _folder_in(top: Path, path: Path) -> str:
    folder = path.parent.relative_to(top).as_posix()
    return "" if folder == "." else folder


def _flat(nested: Mapping, separator: str) -> Iterator[tuple[str, Any]]:
    """Every leaf under its joined keys."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}{separator}{rest}", leaf) for rest, leaf in _flat(value, separator))
        else:
            yield str(key), value
