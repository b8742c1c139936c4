"""The registered model as it is served: images in; class names, probabilities and, if asked for, heatmaps out.

`saving` writes what MLflow keeps of a model; `classifier` answers, by way of `wanted`, `decoding`, `heatmaps` and
`answers`; `application` serves it over HTTP; `mlflow_server` mends what `mlflow models serve` says of a wrong request.
"""

from pipeline.serving.classifier import ServedClassifier
from pipeline.serving.saving import save_servable

__all__ = ["ServedClassifier", "save_servable"]
