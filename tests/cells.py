"""A finished study in miniature for whoever publishes or serves it: made-up scores beside checkpoints that load."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np

from pipeline.files import sha256_of, write_text
from pipeline.models.build import build_classifier
from pipeline.models.checkpoint import CheckpointDescription, save_checkpoint
from pipeline.params import Params, load_params
from pipeline.publishing import Context, Drift, Published, Study, check_study, publish_study
from pipeline.records import Classification, Explanation, HeatmapLineage, Receipt, Record, Summary, Trust
from pipeline.registry import logged_model_of
from pipeline.tracking import MlflowClient, open_store
from tests.report.made_study import CLASSES, SIDE, make_study

ARCH, ARCH_OPTIONS = "vit_tiny_patch16_224", {"patch_size": 16, "embed_dim": 12, "depth": 1, "num_heads": 3}
HALF = (0.5, 0.5, 0.5)


def make_finished_study(data: Path, datasets: Sequence[str] = ("busi",), models: Sequence[str] = ("vit",)) -> Path:
    """Prepared data, cells and a report under `data`, all hashes true."""
    make_study(data, datasets, models, images=24)
    for dataset in datasets:
        for seed, model in enumerate(models):
            give_checkpoint(data, dataset, model, seed)
    make_report(data / "report", datasets)
    return data


def give_checkpoint(data: Path, dataset: str, model: str, seed: int) -> None:
    """A one-block ViT with weights drawn from `seed`; every record of the cell then speaks of it."""
    trained = data / "models" / dataset / model
    classes = CLASSES[dataset]
    classifier = build_classifier(ARCH, ARCH_OPTIONS, "none", len(classes), SIDE, seed)
    description = CheckpointDescription(
        arch=ARCH, arch_options=ARCH_OPTIONS, weights="none", classes=classes, image_size_px=SIDE, mean=HALF, std=HALF
    )
    save_checkpoint(classifier, description, trained / "model.safetensors")
    speak_of(data, dataset, model, sha256_of(trained / "model.safetensors"))


def speak_of(data: Path, dataset: str, model: str, checkpoint_sha256: str) -> None:
    """Makes every file of the cell name that checkpoint, the heatmap archive too."""
    trained, explained, scored = (data / stage / dataset / model for stage in ("models", "heatmaps", "scores"))
    attributions = explained / "attributions.npz"
    with np.load(attributions) as held:
        arrays = {name: held[name] for name in held.files}
    lineage = HeatmapLineage.model_validate_json(str(arrays.pop("lineage")))
    renamed = lineage.model_copy(update={"checkpoint_sha256": checkpoint_sha256})
    np.savez(attributions, **arrays, lineage=np.array(renamed.text()))
    hashes = {"checkpoint_sha256": checkpoint_sha256, "attributions_sha256": sha256_of(attributions)}
    for record in (Receipt, Classification):
        change_record(trained, record, checkpoint_sha256=checkpoint_sha256)
    change_record(explained, Explanation, **hashes)
    for record in (Summary, Trust):
        change_record(scored, record, **hashes)


def change_record(folder: Path, record: type[Record], **changes: object) -> None:
    record.read(folder).model_copy(update=changes).write(folder)


def make_report(folder: Path, datasets: Sequence[str]) -> None:
    write_text(folder / "report.html", "<p>report</p>\n")
    write_text(folder / "tables" / "heatmaps.csv", "dataset,model\n")
    write_text(folder / "metrics.json", '{"busi": {"vit": {"gradcam": {"insertion_auc": 0.5}}}}\n')
    write_text(folder / "findings.json", '[{"id": "F1", "verdict": "undecided", "claim": "..."}]\n')
    for dataset in datasets:
        write_text(folder / "figures" / f"{dataset}_training.png", "a picture\n")


@dataclass(frozen=True)
class PublishedStudy:
    """A finished study in miniature and an MLflow store of its own beside it."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def promotion_log(self) -> Path:
        return self.data / "promotions.jsonl"

    @property
    def client(self) -> MlflowClient:
        return open_store()

    def model_folder(self, number: str = "1") -> Path:
        """What MLflow keeps of the model behind a version."""
        version = self.client.get_model_version("busi-classifier", number)
        model = logged_model_of(self.client, version)
        assert model is not None
        return Path(model.artifact_location.removeprefix("file://"))

    def publish(self, thorough: bool = False) -> list[Published]:
        """Publishes busi-vit and the report."""
        return publish_study(self.study, thorough)

    def check(self) -> list[Drift]:
        return check_study(self.study)

    @property
    def study(self) -> Study:
        return Study(self.data, tiny_params(), Context("c0ffee", self.folder / "dvc.lock"), self.promotion_log)


@contextmanager
def published_study(folder: Path) -> Iterator[PublishedStudy]:
    """busi-vit, finished and published; the store is the one of MLFLOW_TRACKING_URI while the block lasts."""
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}):
        os.environ.pop("MLFLOW_DEFAULT_ARTIFACT_ROOT", None)
        study = PublishedStudy(folder)
        make_finished_study(study.data)
        study.publish()
        yield study


def tiny_params() -> Params:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    return params.model_copy(
        update={"study": params.study.model_copy(update={"datasets": ("busi",), "models": ("vit",)})}
    )
