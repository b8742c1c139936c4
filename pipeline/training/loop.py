"""The training loop of fine-tuning and of pre-training: schedule, step, measure, keep.

What is learned, from which batches and by which loss, an Objective says. All randomness follows from (seed, epoch), so
an epoch is the same whether the ones before ran just now or yesterday.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.clock import duration
from pipeline.device import Arriving, autocast
from pipeline.errors import StudyError
from pipeline.params import TrainingParams
from pipeline.seeds import cell_seed
from pipeline.training.processes import Processes
from pipeline.training.state import Course, EpochRow, StateFile

logger = logging.getLogger(__name__)

T = TypeVar("T")

FILES_NAMED = 4  # of a batch that went wrong


@runtime_checkable
class Rows(Protocol):
    """What the loop must know of a batch."""

    @property
    def rows(self) -> Int64[np.ndarray, " n"]: ...


@runtime_checkable
class Objective(Protocol):
    """What is learned. The loop calls batches once and, for each epoch: loss and after_step for each batch; measure."""

    @property
    def module(self) -> nn.Module:
        """All that learns or moves: kept with the state after each epoch."""

    @property
    def watched(self) -> str | None:
        """The measure of which the highest value decides which epoch is kept; None keeps the last."""

    def batches(self, epochs: range) -> Generator[Any, None, None]:
        """Of each epoch the batches to learn from, then those that its `measure` takes."""

    def loss(self, batch: Any, epoch: int) -> Float[Tensor, ""]:
        """The mean over the batch's images; where processes share the batch, this one's part of that mean."""

    def after_step(self, step: int) -> None: ...

    def measure(self, epoch: int, batches: Iterator[Any]) -> dict[str, float]: ...

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
    processes: Processes = field(default_factory=Processes)

    def first_step(self, epoch: int) -> int:
        return (epoch - 1) * self.steps_per_epoch


class Taken(NamedTuple):
    """A step that was taken; its loss may still be on its way from the device."""

    number: int  # of the batch within the epoch, from 1
    rows: Int64[np.ndarray, " n"]
    loss: Arriving


Told = Callable[[int], None]  # how many batches of all epochs are done


def fit(trainer: Trainer, state: StateFile, progress: Callable[[int, int], None]) -> Course:
    """Train from where `state` stands; the module ends with the weights of the epoch that is kept.

    Args:
        progress: told after each batch how many are done, and of how many in all epochs; after an epoch's last batch
            only when its state is saved.

    Raises:
        StudyError: the loss is not finite; epoch, batch and files are named.
    """
    module, epochs, processes = trainer.objective.module, trainer.params.epochs, trainer.processes
    course = state.restore(module, trainer.optimizer, trainer.objective.watched)
    processes.refuse_difference(course.epochs_run, trainer.device)
    began, first = time.perf_counter(), course.epochs_run

    def told(steps: int) -> None:
        progress(steps, epochs * trainer.steps_per_epoch)

    with closing(trainer.objective.batches(range(first + 1, epochs + 1))) as batches:
        while course.epochs_run < epochs and not _out_of_patience(course, trainer.patience):
            course.add(_run_epoch(trainer, course.epochs_run + 1, batches, told), module)
            if processes.is_main:
                state.save(course, module, trainer.optimizer)
                logger.info(epoch_line(course, epochs, (time.perf_counter() - began) / (course.epochs_run - first)))
            told(trainer.first_step(course.epochs_run + 1))
    module.load_state_dict(course.kept_weights)
    return course


def _out_of_patience(course: Course, patience: int | None) -> bool:
    return patience is not None and bool(course.history) and course.epochs_run - course.kept.epoch >= patience


def _run_epoch(trainer: Trainer, epoch: int, batches: Iterator[Any], told: Told) -> EpochRow:
    torch.manual_seed(cell_seed(trainer.seed, "dropout", epoch, *trainer.processes.seed_names))
    train_loss = train_epoch(trainer, epoch, batches, told)
    trainer.objective.module.eval()
    last_rate = _learning_rate(trainer, trainer.first_step(epoch + 1) - 1)
    return EpochRow(epoch, last_rate, train_loss, trainer.objective.measure(epoch, batches))


def train_epoch(trainer: Trainer, epoch: int, batches: Iterator[Any], told: Told) -> float:
    """Mean loss of the epoch's images."""
    trainer.objective.module.train()
    total, images, steps = 0.0, 0, trainer.steps_per_epoch
    silent = None if trainer.processes.is_main else True
    bar = tqdm(total=steps, desc=f"epoch {epoch}/{trainer.params.epochs}", leave=False, disable=silent)
    with bar:
        for number, rows, arriving in _one_behind(_steps(trainer, epoch, batches)):
            loss = arriving.value()
            check_finite(loss, trainer.objective, rows, f"epoch {epoch}, batch {number} of {steps}")
            total, images = total + loss * len(rows), images + len(rows)
            bar.update()
            if number < steps:
                told(trainer.first_step(epoch) + number)
    return total / images


def _steps(trainer: Trainer, epoch: int, batches: Iterator[Any]) -> Iterator[Taken]:
    for number in range(1, trainer.steps_per_epoch + 1):
        batch, step = next(batches), trainer.first_step(epoch) + number - 1
        for group in trainer.optimizer.param_groups:
            group["lr"] = _learning_rate(trainer, step)
        loss = _step(trainer, batch, epoch)
        trainer.objective.after_step(step)
        yield Taken(number, batch.rows, Arriving(loss))


def _one_behind(items: Iterable[T]) -> Iterator[T]:
    """Each item when the next one was made: a GPU then has that to do while this one's loss is waited for."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) > 1:
            yield held.pop(0)
    yield from held


def _step(trainer: Trainer, batch: Rows, epoch: int) -> Float[Tensor, ""]:
    """The whole batch's loss."""
    with autocast(trainer.device, trainer.params.precision):
        loss = trainer.objective.loss(batch, epoch)
    trainer.optimizer.zero_grad()
    (loss * trainer.processes.number).backward()  # a sum is wanted where the processes' gradients are averaged
    nn.utils.clip_grad_norm_(trainer.objective.module.parameters(), trainer.params.gradient_clip)
    trainer.optimizer.step()
    return trainer.processes.summed(loss.detach())


def _learning_rate(trainer: Trainer, step: int) -> float:
    warmup, total = (trainer.steps_per_epoch * n for n in (trainer.params.warmup_epochs, trainer.params.epochs))
    return trainer.peak * schedule(step, warmup, total)


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
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)  # one pass over the weights instead of a dozen


def check_finite(loss: float, objective: Objective, rows: Int64[np.ndarray, " n"], where: str) -> None:
    if math.isfinite(loss):
        return
    files = list(objective.files(rows[:FILES_NAMED]))
    more = f" and {len(rows) - len(files)} more" if len(rows) > len(files) else ""
    raise StudyError(f"learning_rate: the loss is {loss} in {where}, at {', '.join(files)}{more}; lower it")


def epoch_line(course: Course, epochs: int, seconds: float) -> str:
    """What a person follows: `epoch 7/30  loss 0.91  validation accuracy 0.71  ...  best 0.70 @7  4.1 s  left ...`"""
    row, kept = course.history[-1], course.kept
    measures = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in row.measures.items()]
    best = [f"best {kept.measures[course.watched]:.2f} @{kept.epoch}"] if course.watched else []
    left = f"left {duration((epochs - row.epoch) * seconds)}"
    parts = (f"epoch {row.epoch}/{epochs}", f"loss {row.train_loss:.2f}", *measures, *best, f"{seconds:.1f} s", left)
    return "  ".join(parts)
