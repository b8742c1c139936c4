"""One cell in MLflow: its run, its logged model, and the registered version that carries the evidence."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from pipeline import data, registry, tracking
from pipeline.data.source import PHANTOM
from pipeline.errors import StudyError
from pipeline.files import sha256_of, write_text
from pipeline.params import Params, ShortcutRule
from pipeline.publishing.content import Context, Published, as_text, commit_tag, epochs, flat, hash_of
from pipeline.records import CHECKPOINT, Audit
from pipeline.report.cells import Cell, load_cell
from pipeline.report.model_card import card_file, model_card
from pipeline.report.shortcuts import shortcut_answer

log = logging.getLogger(__name__)

DIGEST_LENGTH = 32  # MLflow allows 36
SHORTCUT = "shortcut."  # before the keys of the rule by which the card speaks of one
RESAMPLES = "findings.resamples"  # of the card's intervals
RUN_LINK = "Run with params, curves and overlays"


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


def publish_cell(
    client: tracking.MlflowClient, files: CellFiles, params: Mapping[str, str], context: Context
) -> Published:
    """One cell. Its earlier run is replaced if only scores changed; a new checkpoint makes a new model version.

    Raises:
        StudyError: the cell's files are absent, damaged or do not belong together.
    """
    cell = read_cell(files)
    content_hash = hash_of(files.all(), files.data_dir, params)
    name, identity = f"{files.dataset}-classifier", registry.identity_of(identity_tags(cell))
    experiment = tracking.experiment_id(client, files.dataset)
    runs = tracking.runs_of(client, experiment, files.name)
    run = tracking.run_in_step(runs, content_hash)
    version = registry.find_version(client, name, identity)
    if run and version and _version_in_step(client, version, content_hash):
        tracking.make_current(client, run.info.run_id, runs, identity)
        log.info("%s: in step (version %s of %s)", files.name, version.version, name)
        return Published(files.name, experiment, run.info.run_id, False, name, str(version.version))

    card = _card(cell, files, params)
    run_content = cell_run(files, cell, params, context, card)
    run_id = tracking.start_run(client, experiment, run_content)
    content = version_content(cell, content_hash, f"{card}\n[{RUN_LINK}](#/experiments/{experiment}/runs/{run_id})")
    saved = partial(_save, files=files, card=card_file(cell, data.get(cell.dataset), card))
    model_id = registry.ensure_logged_model(client, experiment, run_id, content, saved, _model_is_whole)
    tracking.link_model(client, run_id, model_id)
    tracking.log_metrics(client, run_id, run_content, model_id)
    registry.ensure_registered_model(client, registered_model(name, cell))
    number = registry.ensure_version(client, name, run_id, model_id, content)
    tracking.make_current(client, run_id, runs, identity)
    tracking.finish_run(client, run_id, content_hash)
    log.info("%s: published as version %s of %s", files.name, number, name)
    return Published(files.name, experiment, run_id, True, name, number)


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


def cell_params(params: Params, dataset: str, model: str) -> dict[str, str]:
    """The part of params.yaml that a cell depends on, under flat keys: `finetune.augmentation.hue`."""
    whole = params.model_dump()
    sections = {
        "study": {key: whole["study"][key] for key in ("seed", "device", "threads")},
        "dataset": {"name": dataset, **whole["datasets"][dataset]},
        "model": {"name": model, **whole["models"][model]},
        **{name: whole[name] for name in ("preprocess", "finetune", "explain", "score")},
        SHORTCUT.rstrip("."): whole["findings"]["S1"],
        "findings": {"resamples": whole["findings"]["resamples"]},
    }
    if params.datasets[dataset].source == PHANTOM:
        sections["phantom"] = {"seed": params.phantom.seed, **whole["phantom"][dataset]}
    return {key: as_text(value) for key, value in flat(sections, ".")}


def cell_run(
    files: CellFiles, cell: Cell, params: Mapping[str, str], context: Context, card: str
) -> tracking.RunContent:
    receipt = cell.receipt
    misclassified = flat({"misclassified": cell.summary.metrics_misclassified}, "/")
    recall = {f"test/recall/{name}": value for name, value in cell.classification.recall.items()}
    tags = {
        **identity_tags(cell),
        **{f"package/{name}": version for name, version in receipt.packages.items()},
        **commit_tag(context),
        "mlflow.note.content": card,
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


def version_content(cell: Cell, content_hash: str, description: str) -> registry.VersionContent:
    """The tags that say what the version is and how it scored, and its card."""
    told = ("test", *cell.explanation.methods)  # the run and the logged model have the baselines too
    metrics = {key: f"{value:.4f}" for key, value in cell_metrics(cell).items() if key.split("/")[0] in told}
    tags = {tracking.CONTENT_HASH: content_hash, **identity_tags(cell), **metrics}
    return registry.VersionContent(tags, description)


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
    spec = data.get(cell.dataset)
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
    return dict(flat({"test": cell.classification.test, **cell.summary.metrics, **variants, **checks}, "/"))


def _history(cell: Cell) -> list[tuple[str, int, float]]:
    """Every column of history.csv, epoch by epoch."""
    return epochs(cell.history.to_dict(orient="records"))


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
        "shortcut.csv",
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


def _card(cell: Cell, files: CellFiles, params: Mapping[str, str]) -> str:
    rule = {key.removeprefix(SHORTCUT): value for key, value in params.items() if key.startswith(SHORTCUT)}
    resamples, synthetic = int(params[RESAMPLES]), params["dataset.source"] == PHANTOM
    shortcut = shortcut_answer(cell, ShortcutRule.model_validate(rule), cell.summary.seed, resamples).sentence
    return model_card(cell, data.get(cell.dataset), Audit.read(files.prepared), synthetic, resamples, shortcut)


def _save(model: registry.LoggedModel, folder: Path, files: CellFiles, card: str) -> None:
    from pipeline.serving import save_servable  # here: it imports torch, which is not needed where all is in step

    save_servable(model, files.trained, folder)
    write_text(folder / "README.md", card)
