"""What a strategy hands over to be trained."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64

from pipeline.models.build import Classifier
from pipeline.params import StrategyParams
from pipeline.pretraining.corpus import Corpus
from pipeline.seeds import cell_seed
from pipeline.training.batches import Wanted, parts_of
from pipeline.training.loop import Objective, Trainer, build_optimizer


@dataclass(frozen=True)
class Run:
    """Where and from which seed; `key` is the hash of all that decides the result."""

    seed: int
    device: torch.device
    state_dir: Path
    key: str

    def wanted(self, corpus: Corpus, epochs: range, batch_size: int) -> Iterator[Wanted]:
        """The batches of these epochs, in order."""
        for epoch in epochs:
            yield from (Wanted(rows, epoch) for rows in parts_of(self.epoch_order(corpus, epoch), batch_size))

    def epoch_order(self, corpus: Corpus, epoch: int) -> Int64[np.ndarray, " n"]:
        """Training rows, shuffled."""
        return np.random.default_rng(cell_seed(self.seed, "order", epoch)).permutation(corpus.rows("train"))


@dataclass(frozen=True)
class Recipe:
    """An objective, the parameters of its training, and the model within it whose backbone is kept."""

    objective: Objective
    params: StrategyParams
    classifier: Classifier


def build_trainer(objective: Objective, params: StrategyParams, corpus: Corpus, run: Run) -> Trainer:
    return Trainer(
        objective=objective,
        optimizer=build_optimizer(objective.module, params.learning_rate, params.weight_decay),
        params=params,
        peak=params.learning_rate,
        steps_per_epoch=math.ceil(len(corpus.rows("train")) / params.batch_size),
        seed=run.seed,
        device=run.device,
    )
