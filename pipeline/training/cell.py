"""One cell (dataset, model): from prepared images to the folder of a fine-tuned model."""

import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.device import resolve_device, resolve_precision, set_threads
from pipeline.errors import errors_under
from pipeline.files import base_name, is_absolute, sha256_of, whole_folder
from pipeline.keys import key_of
from pipeline.models.build import Classifier, build_classifier
from pipeline.models.checkpoint import CheckpointDescription, save_checkpoint
from pipeline.models.provenance import Provenance, provenance_of
from pipeline.models.weights import normalisation
from pipeline.packages import package_versions
from pipeline.params import FinetuneParams, ModelParams, StudyParams
from pipeline.records import CHECKPOINT, Receipt
from pipeline.seeds import cell_seed
from pipeline.training.finetuning import FineTuning, build_criterion
from pipeline.training.loop import Trainer, build_optimizer, fit
from pipeline.training.processes import Processes, processes_here
from pipeline.training.state import Course, StateFile

# Our own code that decides what is learned.
LEARNING = ("data/augment.py", "data/prepared.py", "device.py", "models", "seeds.py", "training")


def fit_cell(
    prepared_dir: Path,
    model_dir: Path,
    state_dir: Path,
    model: str,
    model_params: ModelParams,
    params: FinetuneParams,
    study: StudyParams,
    progress: Callable[[int, int], None],
) -> Receipt | None:
    """Write model.safetensors, history.csv and receipt.json into `model_dir`; the latter is returned.

    Where processes share the training, the first writes, and the others return None.

    Args:
        state_dir: holds the state of an unfinished training; a rerun goes on from there and ends with equal bytes.
        progress: told after each batch how many are done, and of how many in all epochs.

    Raises:
        StudyError: the model cannot be built from its parameters, an image cannot be read, or the loss is not finite.
    """
    set_threads(study.threads)
    device = resolve_device(study.device)
    processes, data = processes_here(device), load_prepared(prepared_dir)
    with errors_under(_sections(model)):
        start = provenance_of(model_params.arch, model_params.weights, model_params.weights_sha256)
        objective = _build_objective(data, model, model_params, params, study, device, processes)
        state = StateFile(state_dir / "state.safetensors", _key(objective, model, model_params, start, study))
        course = fit(_build_trainer(objective, model_params.learning_rate), state, progress)
    processes.part()
    if not processes.is_main:
        return None
    description = _describe(data, model_params)
    with whole_folder(model_dir) as folder:
        save_checkpoint(objective.module, description, folder / CHECKPOINT)
        write_history(course, folder / "history.csv")
        receipt = _receipt(objective, course, description, start, model, study.seed, sha256_of(folder / CHECKPOINT))
        receipt.write(folder)
    shutil.rmtree(state_dir, ignore_errors=True)
    return receipt


def _build_objective(
    data: Prepared,
    model: str,
    model_params: ModelParams,
    params: FinetuneParams,
    study: StudyParams,
    device: torch.device,
    processes: Processes,
) -> FineTuning:
    about = data.about
    seed = cell_seed(study.seed, about.dataset, model)
    classifier = build_classifier(
        model_params.arch,
        model_params.arch_options,
        model_params.weights,
        len(about.classes),
        about.image_size_px,
        cell_seed(seed, "weights"),
    ).to(device)
    if params.compile:
        classifier.backbone.compile()  # in place: names of weights stay
    learner, criterion = processes.wrap(classifier), build_criterion(data, params).to(device)
    augmenter = Augmenter(params.augmentation, about, seed)
    return FineTuning(classifier, learner, criterion, data, augmenter, params, seed, device, processes)


def _build_trainer(objective: FineTuning, learning_rate: float) -> Trainer:
    params = objective.params
    return Trainer(
        objective=objective,
        optimizer=build_optimizer(objective.module, learning_rate, params.weight_decay),
        params=params,
        peak=learning_rate,
        steps_per_epoch=math.ceil(len(objective.data.rows("train")) / params.batch_size),
        seed=objective.seed,
        device=objective.device,
        patience=params.patience,
        processes=objective.processes,
    )


def write_history(course: Course, path: Path) -> None:
    history = pd.DataFrame([row.flat() for row in course.history])
    history.to_csv(path, index=False, lineterminator="\n", float_format="%.9g")


def _sections(model: str) -> dict[str, str]:
    """Where each parameter stands that an error may open with."""
    own = dict.fromkeys(ModelParams.model_fields, f"models.{model}")
    return dict.fromkeys(FinetuneParams.model_fields, "finetune") | own


def _key(objective: FineTuning, model: str, model_params: ModelParams, start: Provenance, study: StudyParams) -> str:
    """Of everything that decides the result.

    How many processes load or share the training is not part of it: a training may go on with more or fewer GPUs, and
    its numbers are the same but for last digits.
    """
    normalised = normalisation(model_params.arch, model_params.weights)
    deciding = {
        "data": objective.data.about.data_sha256,
        "model": [model, model_params.model_dump(mode="json"), start.weights_sha256, normalised],
        "finetune": objective.params.model_dump(mode="json", exclude={"workers", "processes"}),
        "augmentation": objective.augmenter.recipe,
        "run": [objective.seed, str(objective.device), study.threads],
    }
    return key_of(deciding, code=LEARNING)


def _describe(data: Prepared, model_params: ModelParams) -> CheckpointDescription:
    mean, std = normalisation(model_params.arch, model_params.weights)
    return CheckpointDescription(
        arch=model_params.arch,
        arch_options=model_params.arch_options,
        weights=base_name(model_params.weights) if is_absolute(model_params.weights) else model_params.weights,
        classes=data.about.classes,
        image_size_px=data.about.image_size_px,
        mean=mean,
        std=std,
    )


def _receipt(
    objective: FineTuning,
    course: Course,
    description: CheckpointDescription,
    start: Provenance,
    model: str,
    seed: int,
    checkpoint_sha256: str,
) -> Receipt:
    return Receipt(
        dataset=objective.data.about.dataset,
        model=model,
        **description.model_dump(exclude={"schema_version"}),
        **asdict(start),
        parameters=count_parameters(objective.module),
        seed=seed,
        epochs_run=course.epochs_run,
        best_epoch=course.kept.epoch,
        best_validation_macro_f1=course.kept.measures["validation_macro_f1"],
        augmentation=objective.augmenter.recipe,
        precision=resolve_precision(objective.device, objective.params.precision),
        compiled=objective.params.compile,
        processes=objective.processes.number,
        checkpoint_sha256=checkpoint_sha256,
        data_sha256=objective.data.about.data_sha256,
        packages=package_versions(),
    )


def count_parameters(classifier: Classifier) -> int:
    return sum(parameter.numel() for parameter in classifier.parameters())
