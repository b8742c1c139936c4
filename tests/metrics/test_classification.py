"""Test metrics against a confusion worked out by hand, and the files of a cell."""

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.metrics.classification import classification, classify_cell, macro_auroc
from pipeline.models.checkpoint import CheckpointDescription, save_checkpoint
from pipeline.params import StudyParams
from pipeline.records import Classification
from tests.models.tiny import ARCHITECTURES, build
from tests.prepared import CLASSES, SIDE_PX, write_prepared

STUDY = StudyParams(datasets=("colours",), models=("vit",), seed=0, seeds=(), device="cpu", threads=1)
LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 2, 2, 2])


def certain(predicted):
    return np.eye(3)[predicted] * 0.7 + 0.1


def test_metrics_by_hand():
    result = classification(LABELS, certain(PREDICTED), CLASSES)
    assert result["confusion"] == [[3, 1, 0], [0, 1, 1], [0, 0, 2]]
    assert result["recall"] == {"blue": 0.75, "green": 0.5, "red": 1.0}
    assert result["test"]["accuracy"] == 6 / 8
    assert result["test"]["balanced_accuracy"] == pytest.approx((0.75 + 0.5 + 1) / 3)
    # F1 = 2 hits / (2 hits + misses + false alarms): 6/7, 2/4, 4/5
    assert result["test"]["macro_f1"] == pytest.approx((6 / 7 + 1 / 2 + 4 / 5) / 3)


def test_a_class_never_predicted_counts_as_zero():
    result = classification(LABELS, certain(np.zeros(8, int)), CLASSES)
    assert result["test"]["balanced_accuracy"] == pytest.approx(1 / 3)
    assert result["test"]["macro_f1"] == pytest.approx((2 * 4 / (8 + 4)) / 3)


def test_area_is_the_share_of_pairs_in_order():
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet((1, 1, 1), size=8).round(1)  # rounded, so that there are ties
    areas = []
    for label in range(3):
        own, scores = label == LABELS, probabilities[:, label]
        areas.append(np.mean([(a > b) + 0.5 * (a == b) for a in scores[own] for b in scores[~own]]))
    assert macro_auroc(LABELS, probabilities) == pytest.approx(np.mean(areas))


@pytest.fixture
def cell(tmp_path):
    """A prepared set and an untrained model."""
    arch, options = ARCHITECTURES["vit"]
    half = (0.5, 0.5, 0.5)
    description = CheckpointDescription(
        arch=arch, arch_options=options, weights="none", classes=CLASSES, image_size_px=SIDE_PX, mean=half, std=half
    )
    save_checkpoint(build("vit"), description, tmp_path / "model" / "model.safetensors")
    return write_prepared(tmp_path / "prepared"), tmp_path / "model"


def test_the_files_of_a_cell_agree(cell):
    prepared, model = cell
    result = classify_cell(prepared, model, batch_size=5, study=STUDY)
    table = pd.read_csv(model / "predictions.csv")
    probabilities = table[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert result == Classification.read(model)
    assert list(table["row"]) == list(range(23, 35))  # after 14 training and 9 validation images
    assert list(table["file"]) == [f"{row}.png" for row in table["row"]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-8)
    np.testing.assert_array_equal(table["predicted"], probabilities.argmax(axis=1))
    assert result.test["accuracy"] == table["correct"].mean()
    assert result.checkpoint_sha256 == sha256_of(model / "model.safetensors")


def test_the_batch_size_does_not_change_the_predictions(cell):
    prepared, model = cell
    tables = []
    for batch_size in (1, 12):
        classify_cell(prepared, model, batch_size, STUDY)
        tables.append(pd.read_csv(model / "predictions.csv"))
    pd.testing.assert_frame_equal(*tables, atol=1e-5)


def test_a_model_of_other_classes_is_refused(cell):
    prepared, model = cell
    about = (prepared / "set.json").read_text().replace('"green"', '"yellow"')
    (prepared / "set.json").write_text(about)
    with pytest.raises(StudyError, match="its classes are not those"):
        classify_cell(prepared, model, batch_size=5, study=STUDY)
