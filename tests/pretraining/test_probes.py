"""Nearest neighbours and linear probe, on features whose answer is known."""

import numpy as np
import pytest
import torch

from pipeline.pretraining.probes import Features, knn_accuracy, linear_probe_accuracy, probe
from tests.models.tiny import MODELS, build, draw_images
from tests.pretraining.worlds import COLOURS, SCANS, make_corpus

ANGLES = np.array([0, 10, 80, 90])
BANK = np.stack([np.cos(np.radians(ANGLES)), np.sin(np.radians(ANGLES))], axis=1)
LABELS = np.array([0, 0, 1, 1])


def at(*degrees):
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_the_nearest_by_angle_win_the_vote():
    # all four vote, but exp(similarity / 0.07) of the near two outweighs that of the far two by far
    assert knn_accuracy(BANK, LABELS, 5 * at(20, 70), np.array([0, 1])) == 1.0
    assert knn_accuracy(BANK, LABELS, at(20, 70), np.array([1, 1])) == 0.5


def test_the_vote_is_weighted_not_counted():
    bank, labels = at(0, 40, 50, 60), np.array([0, 1, 1, 1])
    assert knn_accuracy(bank, labels, at(1), np.array([0])) == 1.0


def test_accuracy_is_balanced_over_classes():
    # three of class 0 right, the one of class 1 wrong: (1 + 0) / 2
    assert knn_accuracy(BANK, LABELS, at(0, 1, 2, 3), np.array([0, 0, 0, 1])) == 0.5


def test_a_line_separates_what_a_line_can():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = rng.normal(size=(60, 4)) + 6 * labels[:, None]
    assert linear_probe_accuracy(features[::2], labels[::2], features[1::2], labels[1::2]) == 1.0


@pytest.mark.parametrize("model", MODELS)
def test_features_are_what_the_head_reads(model):
    classifier, images = build(model).eval(), draw_images()
    backbone = classifier.backbone
    with torch.inference_mode():
        features = Features(classifier)(images)
        logits = classifier(images)
        if model == "deit":  # both heads read their own token; with equal heads the average reads the mean
            backbone.head_dist.load_state_dict(backbone.head.state_dict())
            logits = classifier(images)
        head = backbone.head.fc if model == "swin" else backbone.head
        torch.testing.assert_close(head(features), logits)


def test_every_labelled_set_is_probed_on_its_own(tmp_path):
    corpus = make_corpus(tmp_path, COLOURS, SCANS)
    found = probe(build("vit"), corpus, "train", "test", torch.device("cpu"))
    assert set(found) == {"colours"}
    assert set(found["colours"]) == {"knn_accuracy", "linear_probe_accuracy"}
    assert found["colours"]["linear_probe_accuracy"] > 0.9  # colours, even through random weights
