"""The training loop of fine-tuning and of pre-training: schedule, step, measure, keep.

What is learned, from which batches and by which loss, an Objective says. All randomness follows from (seed, epoch), so
an epoch is the same whether the ones before ran just now or yesterday.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.clock import duration
from pipeline.device import autocast
from pipeline.errors import StudyError
from pipeline.params import TrainingParams
from pipeline.seeds import cell_seed
from pipeline.training.state import Course, EpochRow, StateFile

logger = logging.getLogger(__name__)

FILES_NAMED = 4  # of a batch that went wrong


@runtime_checkable
class Rows(Protocol):
    """What the loop must know of a batch."""

    @property
    def rows(self) -> Int64[np.ndarray, " n"]: ...


@runtime_checkable
class Objective(Protocol):
    """What is learned. The loop calls, for each epoch: batches; loss and after_step for each batch; measure."""

    @property
    def module(self) -> nn.Module:
        """All that learns or moves: kept with the state after each epoch."""

    @property
    def watched(self) -> str | None:
        """The measure of which the highest value decides which epoch is kept; None keeps the last."""

    def batches(self, epoch: int) -> Iterable[Any]: ...

    def loss(self, batch: Any, epoch: int) -> Float[Tensor, ""]: ...

    def after_step(self, step: int) -> None: ...

    def measure(self, epoch: int) -> dict[str, float]: ...

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]: ...


@dataclass(frozen=True)
class Trainer:
    """What stays the same through all epochs."""

    objective: Objective
    optimizer: torch.optim.Optimizer
    params: TrainingParams
    peak: float  # learning rate
    steps_per_epoch: int
    seed: int
    device: torch.device
    patience: int | None = None  # epochs without a better watched measure before stopping


def fit(trainer: Trainer, state: StateFile, progress: Callable[[int, int], None]) -> Course:
    """Train from where `state` stands; the module ends with the weights of the epoch that is kept.

    Args:
        progress: told after each epoch how many are done, and of how many.

    Raises:
        StudyError: the loss is not finite; epoch and files are named.
    """
    module, epochs = trainer.objective.module, trainer.params.epochs
    course = state.restore(module, trainer.optimizer, trainer.objective.watched)
    began, first = time.perf_counter(), course.epochs_run
    while course.epochs_run < epochs and not _out_of_patience(course, trainer.patience):
        row = _run_epoch(trainer, course.epochs_run + 1)
        course.add(row, module)
        state.save(course, module, trainer.optimizer)
        logger.info(epoch_line(course, epochs, (time.perf_counter() - began) / (course.epochs_run - first)))
        progress(course.epochs_run, epochs)
    module.load_state_dict(course.kept_weights)
    return course


def _out_of_patience(course: Course, patience: int | None) -> bool:
    return patience is not None and bool(course.history) and course.epochs_run - course.kept.epoch >= patience


def _run_epoch(trainer: Trainer, epoch: int) -> EpochRow:
    torch.manual_seed(cell_seed(trainer.seed, "dropout", epoch))
    train_loss, learning_rate = _train(trainer, epoch)
    trainer.objective.module.eval()
    return EpochRow(epoch, learning_rate, train_loss, trainer.objective.measure(epoch))


def _train(trainer: Trainer, epoch: int) -> tuple[float, float]:
    """Mean loss of the epoch's images and the last learning rate."""
    trainer.objective.module.train()
    first, total, images = (epoch - 1) * trainer.steps_per_epoch, 0.0, 0
    label = f"epoch {epoch}/{trainer.params.epochs}"
    batches = tqdm(trainer.objective.batches(epoch), label, trainer.steps_per_epoch, leave=False, disable=None)
    for step, batch in enumerate(batches, start=first):
        learning_rate = _set_learning_rate(trainer, step)
        loss = _step(trainer, batch, epoch)
        check_finite(loss, trainer.objective, batch.rows, epoch)
        trainer.objective.after_step(step)
        total, images = total + loss * len(batch.rows), images + len(batch.rows)
    return total / images, learning_rate


def _step(trainer: Trainer, batch: Rows, epoch: int) -> float:
    with autocast(trainer.device, trainer.params.precision):
        loss = trainer.objective.loss(batch, epoch)
    trainer.optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trainer.objective.module.parameters(), trainer.params.gradient_clip)
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


def build_optimizer(module: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that leaves biases, norms and other one-axis parameters out of the weight decay."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in learning if parameter.ndim > 1]
    others = [parameter for parameter in learning if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate)


def check_finite(loss: float, objective: Objective, rows: Int64[np.ndarray, " n"], epoch: int) -> None:
    if math.isfinite(loss):
        return
    files = list(objective.files(rows[:FILES_NAMED]))
    more = f" and {len(rows) - len(files)} more" if len(rows) > len(files) else ""
    raise StudyError(f"learning_rate: the loss is {loss} in epoch {epoch}, at {', '.join(files)}{more}; lower it")


def epoch_line(course: Course, epochs: int, seconds: float) -> str:
    """What a person follows: `epoch 7/30  loss 0.91  validation accuracy 0.71  ...  best 0.70 @7  4.1 s  left ...`"""
    row, kept = course.history[-1], course.kept
    measures = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in row.measures.items()]
    best = [f"best {kept.measures[course.watched]:.2f} @{kept.epoch}"] if course.watched else []
    left = f"left {duration((epochs - row.epoch) * seconds)}"
    parts = (f"epoch {row.epoch}/{epochs}", f"loss {row.train_loss:.2f}", *measures, *best, f"{seconds:.1f} s", left)
    return "  ".join(parts)
