"""MLflow's own evaluation of a registered model, and the same figures from the file of predictions."""

import contextlib

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models.evaluation.evaluators.classifier import _get_multiclass_classifier_metrics as with_probabilities

from pipeline.metrics.classification import prediction_table
from pipeline.publishing.evaluation import evaluation_metrics
from tests.cells import published_study
from tests.services.page import run_documented

pytestmark = pytest.mark.slow

NAMES = {"example_count", "accuracy_score", "precision_score", "recall_score", "f1_score"}
CLASSES = ("normal", "benign", "malignant")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What the lines of docs/mlflow.md define, run on a published study whose first version is the champion."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study, contextlib.chdir(study.folder):
        study.client.set_registered_model_alias("busi-classifier", "champion", "1")
        yield {**run_documented("mlflow.models.evaluate"), "client": study.client}


@pytest.fixture(scope="module")
def predictions(world):
    """predictions.csv as the model itself would have it."""
    index = world["index"].reset_index(drop=True)
    answer = world["model"].predict(world["data"][["image"]])
    probabilities = answer[[f"p_{name}" for name in CLASSES]].to_numpy()  # rows of float32, which sum to one roughly
    return prediction_table(index, probabilities / probabilities.sum(axis=1, keepdims=True), CLASSES)


def test_a_registered_model_is_evaluated_in_the_lines_shown(world, predictions):
    own = evaluation_metrics(predictions)
    assert world["evaluation"].metrics == pytest.approx({name: own[name] for name in NAMES})


def test_the_evaluation_is_found_on_the_logged_model(world):
    logged = world["client"].get_logged_model(world["model"].metadata.model_id)
    assert {metric.key for metric in logged.metrics} >= NAMES


def test_more_than_one_column_of_answers_is_beyond_mlflow(world):
    """Where this fails, the function in docs/mlflow.md is no longer needed."""
    with pytest.raises(ValueError, match="number of dimensions"):
        mlflow.models.evaluate(world["model"], world["data"], targets="label", model_type="classifier")


def test_with_probabilities_it_adds_log_loss_and_the_area_under_the_curve(predictions):
    labels, predicted = predictions["label"], predictions["predicted"]
    probabilities = predictions.filter(regex="^p_").to_numpy()
    theirs = with_probabilities(y_true=labels, y_pred=predicted, y_proba=probabilities, labels=np.arange(3))
    assert evaluation_metrics(predictions) == pytest.approx(theirs)


@pytest.mark.usefixtures("world")
def test_two_classes_are_measured_by_the_second():
    table = pd.DataFrame({"label": [0, 0, 1, 1, 1], "predicted": [0, 1, 1, 1, 0], "p_no": [0.9, 0.4, 0.2, 0.1, 0.6]})
    table["p_yes"] = 1 - table["p_no"]
    theirs = mlflow.models.evaluate(
        data=table, targets="label", predictions="predicted", model_type="classifier"
    ).metrics
    own = evaluation_metrics(table)
    assert {name: own[name] for name in NAMES} == pytest.approx({name: theirs[name] for name in NAMES})
    assert own["recall_score"] == pytest.approx(2 / 3)
