"""The script MLflow runs to load a registered model; see `pipeline.serving`."""

from mlflow.models import set_model

from pipeline.serving import ServedClassifier

set_model(ServedClassifier())
