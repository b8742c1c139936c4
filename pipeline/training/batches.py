"""Batches of images, and the weights that make up for unequal classes.

Order and augmentation follow from (seed, epoch) alone: any epoch can be made again without the ones before.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared, to_tensor
from pipeline.params import FinetuneParams
from pipeline.seeds import cell_seed


@dataclass(frozen=True)
class Batch:
    rows: Int64[np.ndarray, " n"]
    images: Float[Tensor, "n 3 s s"]
    labels: Int64[Tensor, " n"]


class EpochBatches(Dataset[Any]):
    """The batches of one epoch, each made when asked for, here or in a loader's process."""

    def __init__(self, make: Callable[[Int64[np.ndarray, " n"]], Any], batches: list[np.ndarray]) -> None:
        self.make, self.batches = make, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> Any:
        return self.make(self.batches[position])


def load_batches(
    make: Callable[[Int64[np.ndarray, " n"]], Any], order: Int64[np.ndarray, " n"], batch_size: int, workers: int
) -> Iterable[Any]:
    """What `make` makes of each `batch_size` rows of `order`, in `workers` processes or, with 0, in this one."""
    return DataLoader(
        EpochBatches(make, np.split(order, range(batch_size, len(order), batch_size))),
        batch_size=None,
        num_workers=workers,
        # Spawned, as a fork of a process with Prefect's threads in it ends with an error.
        multiprocessing_context="spawn" if workers else None,
        # The loader draws a seed for its workers, which draw nothing: its own generator leaves torch's as it is.
        generator=torch.Generator().manual_seed(0),
    )


@dataclass(frozen=True)
class AugmentedBatch:
    """Makes the batch of some rows in one epoch."""

    data: Prepared
    augmenter: Augmenter
    epoch: int

    def __call__(self, rows: Int64[np.ndarray, " n"]) -> Batch:
        images = np.stack([self.augmenter(self.data.images[row], self.epoch, int(row)) for row in rows])
        return Batch(rows, to_tensor(images), torch.from_numpy(labels_of(self.data, rows)))


def training_batches(
    data: Prepared, augmenter: Augmenter, params: FinetuneParams, seed: int, epoch: int
) -> Iterable[Batch]:
    order = epoch_order(data, params.class_balance, cell_seed(seed, "order", epoch))
    return load_batches(AugmentedBatch(data, augmenter, epoch), order, params.batch_size, params.workers)


def plain_batches(data: Prepared, split: str, batch_size: int) -> Iterable[Batch]:
    """Every image of a split in row order, untouched."""
    rows = data.rows(split)
    for part in np.split(rows, range(batch_size, len(rows), batch_size)):
        yield Batch(part, to_tensor(data.images[part]), torch.from_numpy(labels_of(data, part)))


def labels_of(data: Prepared, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return data.index["label"].to_numpy(np.int64)[rows]


def epoch_order(data: Prepared, class_balance: str, seed: int) -> Int64[np.ndarray, " n"]:
    """Training rows, shuffled; with `sampling` drawn with replacement, each class equally often on average."""
    rng, rows = np.random.default_rng(seed), data.rows("train")
    if class_balance != "sampling":
        return rng.permutation(rows)
    weights = class_weights(data)[labels_of(data, rows)]
    return rng.choice(rows, size=len(rows), p=weights / weights.sum())


def class_weights(data: Prepared) -> Float[np.ndarray, " classes"]:
    """images / (classes * images of the class) of the training split: 1 on average over the images."""
    labels = labels_of(data, data.rows("train"))
    counts = np.bincount(labels, minlength=len(data.about.classes))  # none is zero: the split sees to it
    return len(labels) / (len(counts) * counts)
