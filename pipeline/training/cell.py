"""One cell (dataset, model): from prepared images to the folder of a fine-tuned model."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.data.spec import DatasetSpec
from pipeline.device import resolve_device, resolve_precision, set_threads
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_folder
from pipeline.models.build import Classifier, build_classifier
from pipeline.models.checkpoint import CheckpointDescription, save_checkpoint
from pipeline.models.weights import is_path, normalisation
from pipeline.packages import package_versions
from pipeline.params import FinetuneParams, ModelParams, StudyParams
from pipeline.records import Receipt
from pipeline.seeds import cell_seed
from pipeline.training.loop import Trainer, build_criterion, build_optimizer, fit
from pipeline.training.state import Course, StateFile

CHECKPOINT = "model.safetensors"


def fit_cell(
    prepared_dir: Path,
    model_dir: Path,
    state_dir: Path,
    spec: DatasetSpec,
    model: str,
    model_params: ModelParams,
    params: FinetuneParams,
    study: StudyParams,
    progress: Callable[[int, int], None],
) -> Receipt:
    """Write model.safetensors, history.csv and receipt.json into `model_dir`; the latter is returned.

    Args:
        state_dir: holds the state of an unfinished training; a rerun goes on from there and ends with equal bytes.
        progress: told after each epoch how many are done, and of how many.

    Raises:
        StudyError: the model cannot be built from its parameters, or the loss is not finite.
    """
    set_threads(study.threads)
    data = load_prepared(prepared_dir)
    trainer = _build_trainer(data, spec, model, model_params, params, study)
    state = StateFile(state_dir / "state.safetensors", _key(trainer, model, model_params, study))
    with _errors_under(f"models.{model}"):
        course = fit(trainer, state, progress)
    description = _describe(data, model_params)
    with whole_folder(model_dir) as folder:
        save_checkpoint(trainer.classifier, description, folder / CHECKPOINT)
        history = pd.DataFrame([asdict(row) for row in course.history])
        history.to_csv(folder / "history.csv", index=False, lineterminator="\n", float_format="%.9g")
        receipt = _receipt(trainer, course, description, model, study.seed, sha256_of(folder / CHECKPOINT))
        receipt.write(folder)
    shutil.rmtree(state_dir, ignore_errors=True)
    return receipt


def _build_trainer(
    data: Prepared,
    spec: DatasetSpec,
    model: str,
    model_params: ModelParams,
    params: FinetuneParams,
    study: StudyParams,
) -> Trainer:
    seed, device, audit = cell_seed(study.seed, spec.name, model), resolve_device(study.device), data.audit
    with _errors_under(f"models.{model}"):
        classifier = build_classifier(
            model_params.arch,
            model_params.arch_options,
            model_params.weights,
            len(audit.classes),
            audit.image_size_px,
            cell_seed(seed, "weights"),
        ).to(device)
    return Trainer(
        classifier=classifier,
        optimizer=build_optimizer(classifier, model_params.learning_rate, params.weight_decay),
        criterion=build_criterion(data, params).to(device),
        data=data,
        augmenter=Augmenter(params.augmentation, spec, seed),
        params=params,
        peak=model_params.learning_rate,
        seed=seed,
        device=device,
    )


@contextmanager
def _errors_under(key: str) -> Iterator[None]:
    """Errors of the block open with the name of a parameter; this tells under which model it stands."""
    try:
        yield
    except StudyError as error:
        raise StudyError(f"{key}.{error}") from None


def _key(trainer: Trainer, model: str, model_params: ModelParams, study: StudyParams) -> str:
    """Hash of everything that decides the result; the number of loader processes does not."""
    weights = model_params.weights
    deciding = {
        "data": trainer.data.audit.data_sha256,
        "model": [model, model_params.model_dump(mode="json"), sha256_of(Path(weights)) if is_path(weights) else ""],
        "finetune": trainer.params.model_dump(mode="json", exclude={"workers"}),
        "augmentation": trainer.augmenter.recipe,
        "run": [trainer.seed, str(trainer.device), study.threads],
        "packages": package_versions(),
    }
    return hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()


def _describe(data: Prepared, model_params: ModelParams) -> CheckpointDescription:
    mean, std = normalisation(model_params.arch, model_params.weights)
    return CheckpointDescription(
        arch=model_params.arch,
        arch_options=model_params.arch_options,
        weights=model_params.weights,
        classes=data.audit.classes,
        image_size_px=data.audit.image_size_px,
        mean=mean,
        std=std,
    )


def _receipt(
    trainer: Trainer, course: Course, description: CheckpointDescription, model: str, seed: int, checkpoint_sha256: str
) -> Receipt:
    return Receipt(
        dataset=trainer.data.audit.dataset,
        model=model,
        **description.model_dump(exclude={"schema_version"}),
        parameters=count_parameters(trainer.classifier),
        seed=seed,
        epochs_run=course.epochs_run,
        best_epoch=course.best.epoch,
        best_validation_macro_f1=course.best.validation_macro_f1,
        augmentation=trainer.augmenter.recipe,
        precision=resolve_precision(trainer.device, trainer.params.precision),
        checkpoint_sha256=checkpoint_sha256,
        data_sha256=trainer.data.audit.data_sha256,
        packages=package_versions(),
    )


def count_parameters(classifier: Classifier) -> int:
    return sum(parameter.numel() for parameter in classifier.parameters())
