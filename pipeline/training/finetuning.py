"""What fine-tuning learns: the labels of one prepared set, judged on its validation split."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
from pipeline.training.batches import Batch, class_weights, plain_batches, training_batches
from pipeline.training.loop import check_finite


@dataclass(frozen=True)
class FineTuning:
    """An Objective, see `loop`."""

    module: Classifier
    criterion: nn.CrossEntropyLoss
    data: Prepared
    augmenter: Augmenter
    params: FinetuneParams
    seed: int
    device: torch.device
    watched: str | None = "validation_macro_f1"

    def batches(self, epoch: int) -> Iterable[Batch]:
        return training_batches(self.data, self.augmenter, self.params, self.seed, epoch)

    def loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        logits = self.module(batch.images.to(self.device))
        return self.criterion(logits.float(), batch.labels.to(self.device))

    def after_step(self, step: int) -> None:
        """Nothing moves but what the optimizer moves."""

    def measure(self, epoch: int) -> dict[str, float]:
        logits, labels = self._predict("validation")
        loss = self.criterion(logits.to(self.device), labels.to(self.device)).item()
        check_finite(loss, self, self.data.rows("validation"), epoch)
        predicted, classes = logits.argmax(dim=1), list(range(logits.shape[1]))
        macro_f1 = f1_score(labels, predicted, labels=classes, average="macro", zero_division=0)
        return {
            "validation_loss": loss,
            "validation_accuracy": (predicted == labels).double().mean().item(),
            "validation_macro_f1": float(macro_f1),
        }

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]:
        return list(self.data.index["file"].iloc[rows])

    def _predict(self, split: str) -> tuple[Float[Tensor, "n classes"], Int64[Tensor, " n"]]:
        """Logits (fp32, on the CPU) and labels of a split."""
        logits, labels = [], []
        with torch.inference_mode(), autocast(self.device, self.params.precision):
            for batch in plain_batches(self.data, split, self.params.batch_size):
                logits.append(self.module(batch.images.to(self.device)).float().cpu())
                labels.append(batch.labels)
        return torch.cat(logits), torch.cat(labels)


def build_criterion(data: Prepared, params: FinetuneParams) -> nn.CrossEntropyLoss:
    weight = torch.from_numpy(class_weights(data)).float() if params.class_balance == "loss" else None
    return nn.CrossEntropyLoss(weight, label_smoothing=params.label_smoothing)
