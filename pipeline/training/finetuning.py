"""What fine-tuning learns: the labels of one prepared set, judged on its validation split."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.metrics import f1_score
from torch import Tensor, nn

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared
from pipeline.device import autocast
from pipeline.models.build import Classifier
from pipeline.params import FinetuneParams
from pipeline.seeds import cell_seed
from pipeline.training.batches import (
    Batch,
    PreparedBatch,
    Wanted,
    class_weights,
    epoch_order,
    labels_of,
    load_batches,
    parts_of,
)
from pipeline.training.loop import check_finite
from pipeline.training.processes import Processes


@dataclass(frozen=True)
class FineTuning:
    """An Objective, see `loop`."""

    module: Classifier
    learner: nn.Module  # runs the module, gathering the gradients of all processes
    criterion: nn.CrossEntropyLoss  # of each image, times the weight of its class
    data: Prepared
    augmenter: Augmenter
    params: FinetuneParams
    seed: int
    device: torch.device
    processes: Processes
    watched: str | None = "validation_macro_f1"

    def batches(self, epochs: range) -> Generator[Batch, None, None]:
        make = PreparedBatch(self.data, self.augmenter, self.processes.share)
        return load_batches(make, self._wanted(epochs), self.params.workers, self.device)

    def _wanted(self, epochs: range) -> Iterator[Wanted]:
        size, validation = self.params.batch_size, self.data.rows("validation")
        for epoch in epochs:
            order = epoch_order(self.data, self.params.class_balance, cell_seed(self.seed, "order", epoch))
            yield from (Wanted(rows, epoch) for rows in parts_of(order, size))
            yield from map(Wanted, parts_of(validation, size))

    def loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        logits = self.learner(batch.images(self.device))
        losses = self.criterion(logits.float(), batch.labels.to(self.device, non_blocking=True))
        return losses.sum() * (batch.counts / self._weight(batch.rows))

    def after_step(self, step: int) -> None:
        """Nothing moves but what the optimizer moves."""

    def measure(self, epoch: int, batches: Iterator[Batch]) -> dict[str, float]:
        rows = self.data.rows("validation")
        logits, labels = self._predict(rows, batches), torch.from_numpy(labels_of(self.data, rows))
        losses = self.criterion(logits.to(self.device), labels.to(self.device))
        loss = losses.sum().item() / self._weight(rows)
        check_finite(loss, self, rows, f"epoch {epoch}, on the validation images")
        predicted, classes = logits.argmax(dim=1), list(range(logits.shape[1]))
        macro_f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        return {
            "validation_loss": loss,
            "validation_accuracy": (predicted == labels).double().mean().item(),
            "validation_macro_f1": float(macro_f1),
        }

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]:
        return list(self.data.index["file"].iloc[rows])

    def _predict(self, rows: Int64[np.ndarray, " n"], batches: Iterator[Batch]) -> Float[Tensor, "n classes"]:
        """Logits (fp32, on the CPU) of the next batches, which hold these rows in order."""
        logits = torch.zeros(len(rows), len(self.data.about.classes), device=self.device)
        with torch.inference_mode(), autocast(self.device, self.params.precision):
            for part in parts_of(np.arange(len(rows)), self.params.batch_size):
                batch, own = next(batches), self.processes.share.of(part)
                if len(own):
                    logits[own[0] : own[-1] + 1] = self.module(batch.images(self.device)).float()
        return self.processes.summed(logits).cpu()  # each row is that of one process, and zero in the others

    def _weight(self, rows: Int64[np.ndarray, " n"]) -> float:
        """By which the images' losses are divided: their number, or the sum of their classes' weights."""
        weights = self._class_weights
        return float(len(rows) if weights is None else weights[labels_of(self.data, rows)].sum())

    @cached_property
    def _class_weights(self) -> Float[np.ndarray, " classes"] | None:
        weights = self.criterion.weight
        return None if weights is None else weights.cpu().double().numpy()


def build_criterion(data: Prepared, params: FinetuneParams) -> nn.CrossEntropyLoss:
    weight = torch.from_numpy(class_weights(data)).float() if params.class_balance == "loss" else None
    return nn.CrossEntropyLoss(weight, label_smoothing=params.label_smoothing, reduction="none")
