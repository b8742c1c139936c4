"""What MLflow is to hold about one cell: its run, its logged model, and the version that carries the evidence."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline import registry, runs
from pipeline.data.fetching.source import PHANTOM
from pipeline.data.preparing.split import split_sha256
from pipeline.files import files_under, sha256_of, write_text
from pipeline.params import Params, ShortcutRule
from pipeline.publishing.content import Context, as_text, commit_tag, epochs, flat
from pipeline.publishing.evaluation import evaluation_metrics
from pipeline.publishing.files import CellFiles, checked_cell
from pipeline.records import Audit, Manifest
from pipeline.report.cells import Cell
from pipeline.report.model_card import card_file, model_card
from pipeline.report.shortcuts import shortcut_answer

DIGEST_LENGTH = 32  # MLflow allows 36
SHORTCUT = "shortcut."  # before the keys of the rule by which the card speaks of one
RESAMPLES = "findings.resamples"  # of the card's intervals
RUN_LINK = "Run with params, curves, heatmaps and scores"


@dataclass(frozen=True)
class WantedCell:
    files: CellFiles
    cell: Cell
    run: runs.RunContent
    card: str  # Markdown
    context: Mapping[str, str]  # tags of the version that tell where the files came from

    @property
    def name(self) -> str:
        """The cell, as its run is called."""
        return self.files.name

    @property
    def identity(self) -> dict[str, str]:
        return registry.identity_of(identity_tags(self.cell))

    @property
    def registered(self) -> registry.RegisteredModel:
        spec = Audit.read(self.files.prepared).spec
        text = f"Classifiers of {spec.title}, one version per checkpoint, each with the scores of its explanations."
        tags = {"title": spec.title, "classes": ", ".join(self.cell.receipt.classes)}
        return registry.RegisteredModel(registry.model_name(self.cell.dataset), text, tags)

    @property
    def explains(self) -> str:
        """What the logged model tells its methods, as a tag."""
        return json.dumps(self.cell.explanation.settings, sort_keys=True)

    def version(self, experiment: str, run_id: str) -> registry.VersionContent:
        """The tags that say what the version is and how it scored, and its card."""
        told = ("test", *self.cell.explanation.methods)  # the run and the logged model have the baselines too
        metrics = {key: f"{value:.4f}" for key, value in self.run.metrics.items() if key.split("/")[0] in told}
        lineage = {
            runs.CONTENT_HASH: self.run.content_hash,
            registry.EVIDENCE_RUN: run_id,
            registry.TEST_SPLIT: self.run.tags[registry.TEST_SPLIT],
            "attributions_sha256": self.cell.explanation.attributions_sha256,
            **self.context,
        }
        card = f"{self.card}\n[{RUN_LINK}](#/experiments/{experiment}/runs/{run_id})"
        shown = lineage | identity_tags(self.cell) | metrics
        return registry.VersionContent(shown, card, self.run.params, {registry.EXPLAINS: self.explains})

    def save_model(self, model: registry.LoggedModel, folder: Path) -> str:
        """Writes the logged model's files; the hash of their manifest comes back."""
        from pipeline.serving import save_servable  # here: it imports torch, which is not needed where all is in step

        save_servable(model, self.files.trained, self.files.explained, folder)
        write_text(folder / "README.md", card_file(self.cell, Audit.read(self.files.prepared).spec, self.card))
        files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files_under(folder)}
        manifest = Manifest(subject=self.name, params={}, files=files)
        manifest.write(folder)
        return manifest.sha256


def wanted_cell(files: CellFiles, params: Mapping[str, str], context: Context) -> WantedCell:
    """Read from the cell's files.

    Raises:
        StudyError: they are absent, damaged or do not belong together.
    """
    cell = checked_cell(files)
    card = _card(cell, files, params)
    md5 = context.dvc_md5s.get(files.prepared.resolve())
    revision = context.data_revisions.get(md5) if md5 else None
    told = {"git_commit": context.told_commit, "dvc_md5": md5, "data_revision": revision}
    tags = {key: value for key, value in told.items() if value}
    return WantedCell(files, cell, cell_run(files, cell, params, context, card), card, tags)


def cell_params(params: Params, dataset: str, model: str) -> dict[str, str]:
    """The part of params.yaml that a cell depends on, under flat keys: `finetune.augmentation.hue`."""
    whole, described = params.model_dump(), params.datasets[dataset]
    sections = {
        "study": {key: whole["study"][key] for key in ("seed", "device", "threads")},
        "dataset": {"name": dataset, **described.model_dump(exclude_unset=True)},
        "model": {"name": model, **whole["models"][model]},
        **{name: whole[name] for name in ("preprocess", "finetune", "explain", "score")},
        SHORTCUT.rstrip("."): whole["findings"]["S1"],
        "findings": {"resamples": whole["findings"]["resamples"]},
    }
    if described.source == PHANTOM:
        sections["phantom"] = {"seed": params.phantom.seed, **whole["phantom"][described.kind or dataset]}
    return {key: as_text(value) for key, value in flat(sections, ".")}


def cell_run(files: CellFiles, cell: Cell, params: Mapping[str, str], context: Context, card: str) -> runs.RunContent:
    receipt = cell.receipt
    misclassified = flat({"misclassified": cell.summary.metrics_misclassified}, "/")
    recall = {f"test/recall/{name}": value for name, value in cell.classification.recall.items()}
    tags = {
        **identity_tags(cell),
        registry.TEST_SPLIT: split_sha256(pd.read_csv(files.prepared / "index.csv"), "test"),
        **{f"package/{name}": version for name, version in receipt.packages.items()},
        **commit_tag(context),
        "mlflow.note.content": card,
    }
    return runs.RunContent(
        subject=files.name,
        params=params,
        metrics=cell_metrics(cell) | recall | evaluation_metrics(cell.predictions) | dict(misclassified),
        history=epochs(cell.history.to_dict(orient="records")),
        tags=tags,
        artifacts=list(files.artifacts()),
        dataset=_dataset_ref(files, context),
    )


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


def cell_metrics(cell: Cell) -> dict[str, float]:
    """`test/accuracy`, `gradcam/insertion_auc`, ..."""
    checks = {f"{method}/trust": found for method, found in cell.trust.metrics.items()}
    variants = {
        f"{method}/{name}": found
        for name, each in cell.summary.variants.items()
        for method, found in each.metrics.items()
    }
    return dict(flat({"test": cell.classification.test, **cell.summary.metrics, **variants, **checks}, "/"))


def _dataset_ref(files: CellFiles, context: Context) -> runs.DatasetRef:
    audit = Audit.read(files.prepared)
    md5 = context.dvc_md5s.get(files.prepared.resolve())
    profile = {"images": audit.images, "classes": audit.images_per_class, "splits": audit.images_per_split}
    return runs.DatasetRef(
        name=files.dataset,
        digest=audit.data_sha256[:DIGEST_LENGTH],
        source=json.dumps({"path": f"data/prepared/{files.dataset}", "data_sha256": audit.data_sha256, "dvc_md5": md5}),
        profile=json.dumps(profile),
        tags={"mlflow.data.context": "test", **({"dvc_md5": md5} if md5 else {})},
    )


def _card(cell: Cell, files: CellFiles, params: Mapping[str, str]) -> str:
    rule = {key.removeprefix(SHORTCUT): value for key, value in params.items() if key.startswith(SHORTCUT)}
    resamples, synthetic = int(params[RESAMPLES]), params["dataset.source"] == PHANTOM
    shortcut = shortcut_answer(cell, ShortcutRule.model_validate(rule), cell.summary.seed, resamples).sentence
    return model_card(cell, Audit.read(files.prepared), synthetic, resamples, shortcut)
