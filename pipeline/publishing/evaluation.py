"""The metrics that `mlflow.models.evaluate` logs for a classifier, computed from predictions.csv."""

import pandas as pd
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_score, recall_score, roc_auc_score


def evaluation_metrics(predictions: pd.DataFrame) -> dict[str, float]:
    """By MLflow's names, with its averages: over classes, weighted by their images; of two classes, the second's.

    The last two are those it logs where it is given probabilities. Every class has images.
    """
    labels, predicted = predictions["label"], predictions["predicted"]
    probabilities = predictions.filter(regex="^p_").to_numpy()
    binary = probabilities.shape[1] == 2
    how = {"average": "binary" if binary else "weighted", "zero_division": 0}
    found = {
        "example_count": len(predictions),
        "accuracy_score": accuracy_score(labels, predicted),
        "precision_score": precision_score(labels, predicted, **how),
        "recall_score": recall_score(labels, predicted, **how),
        "f1_score": f1_score(labels, predicted, **how),
        "log_loss": log_loss(labels, probabilities),
        "roc_auc": roc_auc_score(
            labels, probabilities[:, 1] if binary else probabilities, average="weighted", multi_class="ovr"
        ),
    }
    return {name: float(value) for name, value in found.items()}
