"""Where a registered version comes from, and to which version a heatmap belongs.

The first is read from what MLflow keeps of the version, the second from what the heatmap's own file says.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict

from pipeline import integrity, registry, runs, tracking
from pipeline.data.preparing.split import split_sha256
from pipeline.errors import StudyError
from pipeline.promotion.change import Holder, Move
from pipeline.promotion.log import read
from pipeline.promotion.registered import evidence_run
from pipeline.publishing.reports import STUDY
from pipeline.records import LINEAGE, HeatmapLineage, Manifest, Receipt

CURVES = ("train_", "validation_", "learning_rate")  # metrics of each epoch


class Promotion(BaseModel):
    """An alias that the version was given."""

    model_config = ConfigDict(frozen=True)
    alias: str
    action: str
    by: str
    at: str
    why: str


class Lineage(BaseModel):
    """Everything behind one version; paths are those of its run's artifacts, which are named as in data/."""

    model_config = ConfigDict(frozen=True)
    model_name: str
    version: str
    aliases: tuple[str, ...]
    dataset: str
    model: str
    arch: str
    weights: str  # where the fine-tuning started
    checkpoint_sha256: str
    logged_model: str
    data_sha256: str
    dvc_md5: str | None
    data_revision: str | None  # a commit whose dvc.lock holds dvc_md5
    test_split_sha256: str
    git_commit: str | None  # at which it was published
    experiment: str
    run_id: str
    params: dict[str, str]
    training: dict[str, float]  # each curve's value in the last epoch
    files: dict[str, str]  # SHA-256 by path
    report_run: str | None  # "experiment/run" of the newest report on this checkpoint
    promotions: tuple[Promotion, ...]  # oldest first


def lineage_of(client: tracking.MlflowClient, dataset: str, asked: str, promotion_log: Path) -> Lineage:
    """Of a version of the dataset's classifier, read from the files of its run and not from tags, where it can be.

    Args:
        asked: its number or an alias.

    Raises:
        StudyError: there is no such version, or its run or its files are gone or altered.
    """
    version = find_version(client, dataset, asked)
    run = evidence_run(client, dataset, version)
    manifest, receipt, split = _read_run(client, run)
    return Lineage(
        model_name=version.name,
        version=str(version.version),
        aliases=tuple(version.aliases),
        **receipt.model_dump(include={"dataset", "model", "arch", "weights", "checkpoint_sha256", "data_sha256"}),
        logged_model=registry.model_id_of(version),
        dvc_md5=_dvc_md5(run),
        data_revision=version.tags.get("data_revision"),
        test_split_sha256=split,
        git_commit=version.tags.get("git_commit"),
        experiment=run.info.experiment_id,
        run_id=run.info.run_id,
        params=manifest.params,
        training={name: value for name, value in run.data.metrics.items() if name.startswith(CURVES)},
        files=manifest.files,
        report_run=_report_run(client, f"{dataset}-{receipt.model}", receipt.checkpoint_sha256),
        promotions=tuple(_promotions(read(promotion_log), version.name, receipt.checkpoint_sha256)),
    )


def _read_run(client: tracking.MlflowClient, run: runs.Run) -> tuple[Manifest, Receipt, str]:
    """The run's manifest, the receipt of its checkpoint, and the hash of its test split."""
    uri = run.info.artifact_uri
    if damaged := integrity.kept_problems(client, uri, run.data.tags[runs.CONTENT_HASH]):
        names = ", ".join(sorted(damaged)[:3])
        raise StudyError(
            f"run {run.info.run_id}: files missing or altered ({names}); `python -m flows.publish` may help"
        )
    with tracking.stored_file(client, uri, Manifest.file_name) as path:
        manifest = Manifest.read_from(_there(path))
    with tracking.stored_file(client, uri, f"models/{Receipt.file_name}") as path:
        receipt = Receipt.read_from(_there(path))
    with tracking.stored_file(client, uri, "prepared/index.csv") as path:
        split = split_sha256(pd.read_csv(_there(path)), "test")
    return manifest, receipt, split


def _there(path: Path | None) -> Path:
    assert path is not None  # it was looked for before
    return path


def _dvc_md5(run: runs.Run) -> str | None:
    """Of the prepared data, as logged with the run: inputs of a run cannot be edited."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return next((json.loads(each.dataset.source).get("dvc_md5") for each in inputs), None)


def find_version(client: tracking.MlflowClient, dataset: str, asked: str) -> registry.ModelVersion:
    """By number or alias.

    Raises:
        StudyError: there is none; those that there are are named.
    """
    name = registry.model_name(dataset)
    versions = registry.versions_of(client, name)
    number = registry.aliases_of(client, name).get(asked, asked)
    if found := [version for version in versions if str(version.version) == number]:
        return client.get_model_version(name, found[0].version)  # a search leaves the aliases out
    known = ", ".join(str(version.version) for version in versions) or "none; `dvc repro publish` makes them"
    raise StudyError(f"{name}: no version or alias {asked}; versions: {known}")


def lineage_in(path: Path) -> HeatmapLineage:
    """What a heatmap file says of itself: attributions.npz, an overlay, a contact sheet, a served heatmap.

    Raises:
        StudyError: it is no such file, or was saved anew by a program that dropped it.
    """
    try:
        return HeatmapLineage.model_validate_json(_lineage_text(path))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except (KeyError, ValueError, OSError, EOFError, BadZipFile, Image.DecompressionBombError):
        raise StudyError(f"{path}: says nothing of its model; is it one of our heatmaps, and unchanged?") from None


def version_of_heatmap(client: tracking.MlflowClient, heatmap: HeatmapLineage) -> registry.ModelVersion:
    """The version that the heatmap explains.

    Raises:
        StudyError: its checkpoint is not registered here.
    """
    name = registry.model_name(heatmap.dataset)
    if version := registry.find_by_checkpoint(client, name, heatmap.checkpoint_sha256):
        return version
    raise StudyError(
        f"{name}: no version has checkpoint {heatmap.checkpoint_sha256[:12]}, which the heatmap explains; "
        "check out the commit that made it, `dvc checkout`, and publish"
    )


def _lineage_text(path: Path) -> str | bytes:
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return str(arrays[LINEAGE])
    with Image.open(path) as picture:
        return picture.info[LINEAGE] if LINEAGE in picture.info else picture.info["comment"]


def _report_run(client: tracking.MlflowClient, cell: str, checkpoint: str) -> str | None:
    experiment = tracking.find_experiment(client, STUDY)
    found = runs.runs_of(client, experiment, STUDY) if experiment else []
    about = (run for run in found if runs.counts(run) and run.data.params.get(f"checkpoint/{cell}") == checkpoint)
    return next((f"{run.info.experiment_id}/{run.info.run_id}" for run in about), None)


def _promotions(moves: Sequence[Move], name: str, checkpoint: str) -> Iterator[Promotion]:
    for move in moves:
        for alias, holder in move.after.items() if move.model_name == name else ():
            if _is_of(holder, checkpoint) and not _is_of(move.before.get(alias), checkpoint):
                yield Promotion(alias=alias, action=move.action, by=move.by, at=move.at, why=move.why)


def _is_of(holder: Holder | None, checkpoint: str) -> bool:
    return holder is not None and holder.checkpoint_sha256 == checkpoint


def lineage_text(lineage: Lineage, page: str) -> str:
    """For people.

    Args:
        page: the address of MLflow's pages.
    """
    aliases = f" ({', '.join(lineage.aliases)})" if lineage.aliases else ""
    lines = [f"{lineage.model_name} version {lineage.version}{aliases}"]
    lines += [f"  {name:<12}{value}".rstrip() for name, value in _told(lineage, page)]
    return "\n".join(lines)


def _told(lineage: Lineage, page: str) -> Iterator[tuple[str, str]]:
    yield "page", f"{page}/#/models/{lineage.model_name}/versions/{lineage.version}"
    yield "model", f"{lineage.model}: {lineage.arch}, started from {lineage.weights}"
    yield "checkpoint", f"{lineage.checkpoint_sha256}  (logged model {lineage.logged_model})"
    yield "data", f"{lineage.data_sha256}  (DVC {lineage.dvc_md5 or 'does not know it'})"
    yield "", _get_data(lineage)
    yield "test split", lineage.test_split_sha256
    yield "published", f"at commit {lineage.git_commit}" if lineage.git_commit else "outside git"
    yield "run", f"{page}/#/experiments/{lineage.experiment}/runs/{lineage.run_id}"
    yield "params", f"{len(lineage.params)}, on the run's page and in its manifest.json"
    yield "training", ", ".join(f"{name} {value:.4g}" for name, value in sorted(lineage.training.items()))
    for title, folder in (("heatmaps", "heatmaps"), ("scores", "scores")):
        yield from _files(title, {path: sha for path, sha in lineage.files.items() if path.startswith(f"{folder}/")})
    experiment, _, run = (lineage.report_run or "").partition("/")
    yield "report", f"{page}/#/experiments/{experiment}/runs/{run}" if run else "none speaks of this checkpoint"
    for promotion in lineage.promotions:
        why = f": {promotion.why}" if promotion.why else ""
        yield promotion.alias, f"{promotion.at} by {promotion.by} ({promotion.action}){why}"


def _get_data(lineage: Lineage) -> str:
    folder = f"data/prepared/{lineage.dataset}"
    if lineage.data_revision is None:
        return "no commit's dvc.lock holds it yet: git add dvc.lock, and commit"
    return f"dvc get . {folder} --rev {lineage.data_revision[:12]} --out {lineage.dataset}"


def _files(title: str, files: dict[str, str]) -> Iterator[tuple[str, str]]:
    """A line each, but for pictures, which are counted."""
    told = [f"{sha256[:16]}  {path}" for path, sha256 in files.items() if not path.endswith((".png", ".jpg"))]
    pictures = [path for path in files if path.endswith((".png", ".jpg"))]
    if pictures:
        told.append(f"{len(pictures)} pictures in {pictures[0].rpartition('/')[0]}/")
    yield from zip([title] + [""] * (len(told) - 1), told, strict=True)
