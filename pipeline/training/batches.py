"""Batches of images in the order of their use, and the weights that make up for unequal classes.

Order and augmentation follow from (seed, epoch) alone: any epoch can be made again without the ones before.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared
from pipeline.errors import StudyError
from pipeline.training.processes import Share


class Wanted(NamedTuple):
    """What a batch is made from."""

    rows: Int64[np.ndarray, " n"]
    epoch: int | None = None  # that the augmentation is drawn for; None leaves the images as they are


class Batch(NamedTuple):
    """The loader pins the memory of a tuple's tensors by itself."""

    rows: Int64[np.ndarray, " n"]  # of the whole batch; the rest is of this process's share
    pixels: UInt8[Tensor, "m s s 3"]
    labels: Int64[Tensor, " m"]
    counts: bool = True  # a share without images holds one that does not count, as each process must run the model

    def images(self, device: torch.device) -> Float[Tensor, "m 3 s s"]:
        return unit_images(self.pixels.to(device, non_blocking=True))


def unit_images(pixels: UInt8[Tensor, "n s s 3"]) -> Float[Tensor, "n 3 s s"]:
    """In [0, 1], the values of `to_tensor`: bytes cross to the loader's parent and to the GPU, a quarter of floats."""
    images = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # A plain 255 would become a factor 1/255 on a GPU, which gives other last digits than a quotient.
    return images.div_(torch.full((), 255.0, device=images.device))


class Makings(Dataset[Any]):
    """Makes what is wanted, here or in a loader's process."""

    def __init__(self, make: Callable[[Wanted], Any]) -> None:
        self.make = make

    def __getitem__(self, wanted: Wanted) -> Any:
        try:
            return self.make(wanted)
        except StudyError as error:
            return error  # raised in a loader's process it would arrive as a traceback


def load_batches(
    make: Callable[[Wanted], Any], wanted: Iterable[Wanted], workers: int, device: torch.device
) -> Generator[Any, None, None]:
    """What `make` makes of each, in order; in `workers` processes that work ahead or, with 0, in this one.

    The processes end with the generator: close it.

    Raises:
        StudyError: one that `make` raised, or the system ended one of the processes.
    """
    loader = DataLoader(
        Makings(make),
        batch_size=None,
        sampler=wanted,
        collate_fn=_as_made,
        num_workers=workers,
        # Spawned, as a fork of a process with Prefect's threads in it ends with an error.
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_one_thread if workers else None,
        pin_memory=device.type == "cuda",
        # The loader draws a seed for its workers, which draw nothing: its own generator leaves torch's as it is.
        generator=torch.Generator().manual_seed(0),
    )
    made: Iterator[Any] = iter(loader)
    try:
        for batch in made:
            if isinstance(batch, StudyError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise StudyError(
            f"workers: one of {workers} processes that load images was ended from outside, most likely for want of "
            "memory or of room in /dev/shm; lower it"
        ) from None
    finally:
        del made  # ends its processes, even while an error's traceback still holds this frame


def _as_made(batch: Any) -> Any:
    """Where no other function is named, the loader makes tensors of arrays."""
    return batch


def _one_thread(worker: int) -> None:
    """In this process the augmenters are unpickled, not built."""
    cv2.setNumThreads(0)


@dataclass(frozen=True)
class PreparedBatch:
    """Makes this process's share of a batch of a prepared set."""

    data: Prepared
    augmenter: Augmenter
    share: Share

    def __call__(self, wanted: Wanted) -> Batch:
        own = self.share.of(wanted.rows)
        rows = own if len(own) else wanted.rows[:1]
        pixels = self.data.pixels(rows)
        if wanted.epoch is not None:
            items = zip(pixels, rows.tolist(), strict=True)
            pixels = np.stack([self._augmented(image, row, wanted.epoch) for image, row in items])
        labels = torch.from_numpy(labels_of(self.data, rows))
        return Batch(wanted.rows, torch.from_numpy(pixels), labels, counts=len(own) > 0)

    def _augmented(self, image: UInt8[np.ndarray, "s s 3"], row: int, epoch: int) -> UInt8[np.ndarray, "s s 3"]:
        try:
            return self.augmenter(image, epoch, row)
        except Exception as error:
            file = self.data.index["file"].iloc[row]
            raise StudyError(
                f"augmentation: {file} of {self.data.about.dataset} cannot be augmented in epoch {epoch}: {error}; "
                "switch that kind off"
            ) from None


def parts_of(rows: Int64[np.ndarray, " n"], size: int) -> list[Int64[np.ndarray, " m"]]:
    """As many rows in each part; the last has what is left."""
    return np.split(rows, range(size, len(rows), size))


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
