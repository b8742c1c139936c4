"""The training loop: schedule, step, validate, keep best.

All randomness follows from (seed, epoch), so an epoch is the same whether the ones before ran just now or yesterday.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.metrics import f1_score
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared
from pipeline.device import autocast
from pipeline.errors import StudyError
from pipeline.models.build import Classifier
from pipeline.params import FinetuneParams
from pipeline.seeds import cell_seed
from pipeline.training.batches import Batch, class_weights, plain_batches, training_batches
from pipeline.training.state import Course, EpochRow, StateFile

logger = logging.getLogger(__name__)

FILES_NAMED = 4  # of a batch that went wrong


@dataclass(frozen=True)
class Trainer:
    """What stays the same through all epochs."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    criterion: nn.CrossEntropyLoss
    data: Prepared
    augmenter: Augmenter
    params: FinetuneParams
    peak: float  # learning rate
    seed: int
    device: torch.device

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.data.rows("train")) / self.params.batch_size)


def fit(trainer: Trainer, state: StateFile, progress: Callable[[int, int], None]) -> Course:
    """Train from where `state` stands; the classifier ends with the weights of the best epoch.

    Args:
        progress: told after each epoch how many are done, and of how many.

    Raises:
        StudyError: the loss is not finite; epoch and files are named.
    """
    course = state.restore(trainer.classifier, trainer.optimizer)
    epochs, began, first = trainer.params.epochs, time.perf_counter(), course.epochs_run
    while course.epochs_run < epochs and not _out_of_patience(course, trainer.params.patience):
        row = _run_epoch(trainer, course.epochs_run + 1)
        course.add(row, trainer.classifier)
        state.save(course, trainer.classifier, trainer.optimizer)
        logger.info(epoch_line(course, epochs, (time.perf_counter() - began) / (course.epochs_run - first)))
        progress(course.epochs_run, epochs)
    trainer.classifier.load_state_dict(course.best_weights)
    return course


def _out_of_patience(course: Course, patience: int) -> bool:
    return bool(course.history) and course.epochs_run - course.best.epoch >= patience


def _run_epoch(trainer: Trainer, epoch: int) -> EpochRow:
    torch.manual_seed(cell_seed(trainer.seed, "dropout", epoch))
    train_loss, learning_rate = _train(trainer, epoch)
    logits, labels = predict(trainer.classifier, trainer.data, "validation", trainer.params, trainer.device)
    loss = trainer.criterion(logits.to(trainer.device), labels.to(trainer.device)).item()
    _check_finite(loss, trainer.data, trainer.data.rows("validation"), epoch)
    accuracy, macro_f1 = _accuracy_and_f1(logits, labels)
    return EpochRow(epoch, learning_rate, train_loss, loss, accuracy, macro_f1)


def _train(trainer: Trainer, epoch: int) -> tuple[float, float]:
    """Mean loss of the epoch's images and the last learning rate."""
    trainer.classifier.train()
    first, total, images = (epoch - 1) * trainer.steps_per_epoch, 0.0, 0
    batches = training_batches(trainer.data, trainer.augmenter, trainer.params, trainer.seed, epoch)
    label = f"epoch {epoch}/{trainer.params.epochs}"
    for step, batch in enumerate(tqdm(batches, label, leave=False, disable=None), start=first):
        learning_rate = _set_learning_rate(trainer, step)
        loss = _step(trainer, batch)
        _check_finite(loss, trainer.data, batch.rows, epoch)
        total, images = total + loss * len(batch.rows), images + len(batch.rows)
    return total / images, learning_rate


def _step(trainer: Trainer, batch: Batch) -> float:
    images, labels = batch.images.to(trainer.device), batch.labels.to(trainer.device)
    with autocast(trainer.device, trainer.params.precision):
        logits = trainer.classifier(images)
    loss = trainer.criterion(logits.float(), labels)
    trainer.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trainer.classifier.parameters(), trainer.params.gradient_clip)
    trainer.optimizer.step()
    return loss.item()


def _set_learning_rate(trainer: Trainer, step: int) -> float:
    warmup, total = (trainer.steps_per_epoch * n for n in (trainer.params.warmup_epochs, trainer.params.epochs))
    learning_rate = trainer.peak * schedule(step, warmup, total)
    for group in trainer.optimizer.param_groups:
        group["lr"] = learning_rate
    return learning_rate


def schedule(step: int, warmup: int, total: int) -> float:
    """Share of the peak learning rate at a step from 0: a line up to 1 over `warmup` steps, then a half cosine."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def predict(
    classifier: Classifier, data: Prepared, split: str, params: FinetuneParams, device: torch.device
) -> tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]]:
    """Logits (fp32, on the CPU) and labels of a split; leaves the classifier in eval mode."""
    classifier.eval()
    logits, labels = [], []
    with torch.inference_mode(), autocast(device, params.precision):
        for batch in plain_batches(data, split, params.batch_size):
            logits.append(classifier(batch.images.to(device)).float().cpu())
            labels.append(batch.labels)
    return torch.cat(logits), torch.cat(labels)


def _accuracy_and_f1(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"]) -> tuple[float, float]:
    predicted, classes = logits.argmax(dim=1), list(range(logits.shape[1]))
    macro_f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
    return (predicted == labels).double().mean().item(), float(macro_f1)


def build_criterion(data: Prepared, params: FinetuneParams) -> nn.CrossEntropyLoss:
    weight = torch.from_numpy(class_weights(data)).float() if params.class_balance == "loss" else None
    return nn.CrossEntropyLoss(weight, label_smoothing=params.label_smoothing)


def build_optimizer(classifier: Classifier, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that leaves biases, norms and other one-axis parameters out of the weight decay."""
    decayed = [parameter for parameter in classifier.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in classifier.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


def _check_finite(loss: float, data: Prepared, rows: Int64[np.ndarray, " n"], epoch: int) -> None:
    if math.isfinite(loss):
        return
    files = list(data.index["file"].iloc[rows[:FILES_NAMED]])
    more = f" and {len(rows) - len(files)} more" if len(rows) > len(files) else ""
    raise StudyError(f"learning_rate: the loss is {loss} in epoch {epoch}, at {', '.join(files)}{more}; lower it")


def epoch_line(course: Course, epochs: int, seconds: float) -> str:
    """What a person follows: `epoch 7/30  loss 0.91  val loss 0.80  acc 0.71  macro-F1 0.70  best 0.70 @7 ...`"""
    row, best = course.history[-1], course.best
    return (
        f"epoch {row.epoch}/{epochs}  loss {row.train_loss:.2f}  val loss {row.validation_loss:.2f}  "
        f"acc {row.validation_accuracy:.2f}  macro-F1 {row.validation_macro_f1:.2f}  "
        f"best {best.validation_macro_f1:.2f} @{best.epoch}  "
        f"{seconds:.1f} s  left {duration((epochs - row.epoch) * seconds)}"
    )


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
