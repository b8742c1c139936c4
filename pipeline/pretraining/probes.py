"""How much of the classes a frozen backbone's features tell: nearest neighbours and a linear probe.

Both as in the DINO paper (arXiv 2104.14294, section 4.1): 20 neighbours by cosine similarity, weighted
exp(similarity / 0.07); a linear classifier on the features. Only these probes see labels, never the backbone.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from pipeline.data.prepared import to_tensor
from pipeline.models.build import Classifier
from pipeline.pretraining.corpus import Corpus

Probe = Callable[..., float]  # bank, its labels, queries, their labels -> balanced accuracy

NEIGHBOURS, TEMPERATURE = 20, 0.07
BATCH = 256  # images per forward pass
ITERATIONS = 1000  # of the linear probe, at most


class Features(nn.Module):
    """Of the classifier, what its head reads: [n, c]."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        backbone: Any = self.classifier.backbone
        tokens = backbone.forward_features(self.classifier.normalise(images))
        return backbone.forward_head(tokens, pre_logits=True)


def in_batches(
    module: nn.Module, corpus: Corpus, rows: Int64[np.ndarray, " n"], device: torch.device
) -> Float[Tensor, "n c"]:
    """The module's outputs (fp32, on the CPU) for untouched images."""
    parts = np.split(rows, range(BATCH, len(rows), BATCH))
    with torch.inference_mode():
        return torch.cat([module(to_tensor(corpus.images(part)).to(device)).float().cpu() for part in parts])


def knn_accuracy(
    bank: Float[np.ndarray, "n c"],
    bank_labels: Int64[np.ndarray, " n"],
    queries: Float[np.ndarray, "m c"],
    labels: Int64[np.ndarray, " m"],
) -> float:
    """Balanced accuracy of a weighted vote of the nearest in the bank."""
    voters = KNeighborsClassifier(min(NEIGHBOURS, len(bank)), metric="cosine", weights=_vote)
    return float(balanced_accuracy_score(labels, voters.fit(bank, bank_labels).predict(queries)))


def _vote(distances: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "m k"]:
    """Proportional to exp(similarity / temperature)."""
    return np.exp(-distances / TEMPERATURE)


def linear_probe_accuracy(
    bank: Float[np.ndarray, "n c"],
    bank_labels: Int64[np.ndarray, " n"],
    queries: Float[np.ndarray, "m c"],
    labels: Int64[np.ndarray, " m"],
) -> float:
    """Balanced accuracy of a logistic regression on standardised features."""
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    return float(balanced_accuracy_score(labels, line.fit(bank, bank_labels).predict(queries)))


PROBES: dict[str, Probe] = {"knn_accuracy": knn_accuracy, "linear_probe_accuracy": linear_probe_accuracy}


def probe(
    classifier: Classifier, corpus: Corpus, bank_split: str, query_split: str, device: torch.device,
    probes: Mapping[str, Probe] = PROBES,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """What each probe, fitted on one split of each labelled set, reaches on the other."""
    features = Features(classifier).eval()
    accuracies = {}
    for number, one in enumerate(corpus.about):
        if one.labelled:
            bank, queries = (_of_set(features, corpus, number, split, device) for split in (bank_split, query_split))
            accuracies[one.dataset] = {name: accuracy(*bank, *queries) for name, accuracy in probes.items()}
    return accuracies


def _of_set(
    features: Features, corpus: Corpus, number: int, split: str, device: torch.device
) -> tuple[Float[np.ndarray, "n c"], Int64[np.ndarray, " n"]]:
    """Features and labels of a split of one set."""
    rows = corpus.rows(split)
    rows = rows[corpus.place(rows)[0] == number]
    return in_batches(features, corpus, rows, device).numpy(), corpus.labels(rows)
