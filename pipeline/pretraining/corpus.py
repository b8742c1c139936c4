"""Several prepared sets as one long list of images: first all rows of the first set, then of the second, and so on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.errors import StudyError
from pipeline.params import AugmentationParams
from pipeline.records import PreparedSet
from pipeline.training.batches import Batch, Wanted, labels_of


@dataclass(frozen=True)
class Corpus:
    sets: tuple[Prepared, ...]

    @property
    def about(self) -> tuple[PreparedSet, ...]:
        return tuple(one.about for one in self.sets)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " sets"]:
        """The row at which each set begins."""
        return np.cumsum([0, *(len(one.images) for one in self.sets[:-1])])

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """`pbc/basophil`, ...: the classes of the labelled sets, one after the other."""
        return tuple(f"{one.dataset}/{name}" for one in self.about if one.labelled for name in one.classes)

    @property
    def image_size_px(self) -> int:
        return self.sets[0].about.image_size_px

    def rows(self, split: str) -> Int64[np.ndarray, " n"]:
        return np.concatenate([one.rows(split) + start for one, start in zip(self.sets, self.starts, strict=True)])

    def place(self, rows: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """The set of each row, and its row therein."""
        numbers = np.searchsorted(self.starts, rows, side="right").astype(np.int64) - 1
        return numbers, rows - self.starts[numbers]

    def image(self, row: int) -> UInt8[np.ndarray, "s s 3"]:
        (number,), (local,) = self.place(np.array([row]))
        return self.sets[number].pixels(np.array([local]))[0]

    def images(self, rows: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n s s 3"]:
        return np.stack([self.image(int(row)) for row in rows])

    def labels(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Positions in `classes`; of images without a label, -1."""
        numbers, local = self.place(rows)
        labels, first = np.full(len(rows), -1, dtype=np.int64), 0
        for number, one in enumerate(self.sets):
            if one.about.labelled:
                chosen = numbers == number
                labels[chosen] = labels_of(one, local[chosen]) + first
                first += len(one.about.classes)
        return labels

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]:
        places = zip(*self.place(rows), strict=True)
        return [
            f"{self.about[number].dataset}/{self.sets[number].index['file'].iloc[local]}" for number, local in places
        ]


def load_corpus(folders: Sequence[Path]) -> Corpus:
    """The prepared sets in these folders as one."""
    return Corpus(tuple(load_prepared(folder) for folder in folders))


def refuse_unlabelled(corpus: Corpus, strategy: str) -> None:
    """
    Raises:
        StudyError: a set has no labels.
    """
    if names := [one.dataset for one in corpus.about if not one.labelled]:
        raise StudyError(
            f"pretraining.sources.{names[0]}: has no labels, which {strategy} needs; use the strategy dino, "
            "or name the source after a known set and give it a folder per class"
        )


@dataclass(frozen=True)
class AugmentedCorpusBatch:
    """Makes a batch, each image augmented as its set allows."""

    corpus: Corpus
    augmenters: tuple[Augmenter, ...]  # one for each set

    def __call__(self, wanted: Wanted) -> Batch:
        rows, (numbers, _) = wanted.rows, self.corpus.place(wanted.rows)
        images = [
            self.augmenters[number](self.corpus.image(int(row)), wanted.epoch, int(row))
            for number, row in zip(numbers, rows, strict=True)
        ]
        return Batch(rows, torch.from_numpy(np.stack(images)), torch.from_numpy(self.corpus.labels(rows)))


def augmenters_of(corpus: Corpus, params: AugmentationParams, seed: int) -> tuple[Augmenter, ...]:
    return tuple(Augmenter(params, one, seed) for one in corpus.about)
