"""Supervised pre-training: cross-entropy over the classes of all labelled sets together."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from pipeline.data.augment import Augmenter
from pipeline.models.build import Classifier, build_classifier
from pipeline.models.weights import FROM_SCRATCH
from pipeline.params import ModelParams, SupervisedParams
from pipeline.pretraining.corpus import AugmentedCorpusBatch, Corpus, augmenters_of, refuse_unlabelled
from pipeline.pretraining.probes import in_batches
from pipeline.pretraining.recipe import Recipe, Run
from pipeline.seeds import cell_seed
from pipeline.training.batches import Batch, load_batches

Criterion = Callable[[Classifier, Tensor, Tensor], Tensor]  # model, images [n 3 s s], labels [n] -> loss


@dataclass(frozen=True)
class Supervised:
    """An Objective, see `pipeline.training.loop`: whatever is learned from images with labels."""

    module: Classifier
    criterion: Criterion
    corpus: Corpus
    augmenters: tuple[Augmenter, ...]
    params: SupervisedParams
    run: Run
    watched: str | None = None

    def batches(self, epochs: range) -> Generator[Batch, None, None]:
        wanted = self.run.wanted(self.corpus, epochs, self.params.batch_size)
        make = AugmentedCorpusBatch(self.corpus, self.augmenters)
        return load_batches(make, wanted, self.params.workers, self.run.device)

    def loss(self, batch: Batch, epoch: int) -> Float[Tensor, ""]:
        return self.criterion(self.module, batch.images(self.run.device), batch.labels.to(self.run.device))

    def after_step(self, step: int) -> None:
        """Nothing moves but what the optimizer moves."""

    def measure(self, epoch: int, batches: Iterator[Batch]) -> dict[str, float]:
        rows = self.corpus.rows("validation")
        predicted = in_batches(self.module, self.corpus, rows, self.run.device).argmax(dim=1)
        return {"validation_balanced_accuracy": float(balanced_accuracy_score(self.corpus.labels(rows), predicted))}

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]:
        return self.corpus.files(rows)


def build_supervised(corpus: Corpus, model: ModelParams, params: SupervisedParams, run: Run) -> Recipe:
    """
    Raises:
        StudyError: a set has no labels, or the model cannot be built.
    """
    refuse_unlabelled(corpus, "supervised")
    classifier = start_classifier(corpus, model, run)
    return learn_labels(classifier, cross_entropy_criterion(params.label_smoothing), corpus, params, run)


def cross_entropy_criterion(label_smoothing: float) -> Criterion:
    cross_entropy = nn.CrossEntropyLoss(label_smoothing=label_smoothing)
    return lambda model, images, labels: cross_entropy(model(images).float(), labels)


def start_classifier(corpus: Corpus, model: ModelParams, run: Run) -> Classifier:
    """From scratch, with a head for the classes of the corpus."""
    seed = cell_seed(run.seed, "weights")
    classifier = build_classifier(
        model.arch, model.arch_options, FROM_SCRATCH, len(corpus.classes), corpus.image_size_px, seed
    )
    return classifier.to(run.device)


def learn_labels(
    classifier: Classifier, criterion: Criterion, corpus: Corpus, params: SupervisedParams, run: Run
) -> Recipe:
    augmenters = augmenters_of(corpus, params.augmentation, run.seed)
    return Recipe(Supervised(classifier, criterion, corpus, augmenters, params, run), params, classifier)
