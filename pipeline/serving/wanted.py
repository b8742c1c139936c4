"""What a request asks for beside label and probabilities: MLflow's params, checked and typed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.types import DataType, ParamSchema, ParamSpec

from pipeline.serving.refusals import Refusal

PREDICTED = "predicted"  # in place of a class: the one that the model gives the image
PARAMS = ParamSchema(
    [
        ParamSpec("method", DataType.string, "gradcam"),
        ParamSpec("target", DataType.string, ""),  # as PREDICTED
        ParamSpec("top_k", DataType.long, 0),
        ParamSpec("return_heatmap", DataType.boolean, False),
    ]
)


@dataclass(frozen=True)
class Wanted:
    method: str
    target: str | None  # a class; None is the class predicted
    top_k: int
    return_heatmap: bool


def read_wanted(params: Mapping[str, Any] | None, methods: Sequence[str], classes: Sequence[str]) -> Wanted:
    """
    Raises:
        Refusal: a value is none of its choices, which are listed.
    """
    given = {param.name: param.default for param in PARAMS} | dict(params or {})
    _check_choice("method", given["method"], methods)
    _check_choice("target", given["target"], ("", PREDICTED, *classes))
    _check_choice("top_k", given["top_k"], range(len(classes) + 1))
    target = None if given["target"] in ("", PREDICTED) else given["target"]
    return Wanted(given["method"], target, given["top_k"], given["return_heatmap"])


def _check_choice(param: str, value: object, choices: Sequence[object]) -> None:
    if value not in choices:
        listed = ", ".join(str(choice) for choice in choices if choice != "")
        raise Refusal(f"{param}: {value!r} is none of its values; choose from {listed}")
