"""What is answered: a table with one row for each image, in columns that JSON can hold."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32
from mlflow.types import ColSpec, DataType, Schema
from mlflow.types.schema import AnyType

Probabilities = Float[np.ndarray, "n classes"]


@dataclass(frozen=True)
class Heatmap:
    attribution: Float32[np.ndarray, "h w"]
    png: bytes
    method: str
    target: str  # the class explained


def as_table(
    probabilities: Probabilities, classes: tuple[str, ...], top_k: int, heatmaps: Sequence[Heatmap]
) -> pd.DataFrame:
    """Columns as in `schema`; those of rivals where `top_k` is not 0, those of heatmaps where there are any."""
    rivals = {"top_k": best_classes(probabilities, classes, top_k)} if top_k else {}
    return pd.DataFrame(
        {
            "label": [classes[index] for index in probabilities.argmax(axis=1)],
            "probability": probabilities.max(axis=1).astype(float),
            **{f"p_{name}": probabilities[:, index].astype(float) for index, name in enumerate(classes)},
            **rivals,
            **(_heatmap_columns(heatmaps) if heatmaps else {}),
        }
    )


def best_classes(probabilities: Probabilities, classes: tuple[str, ...], count: int) -> list[list[dict]]:
    """Of each image, `count` classes with their probabilities, best first; among equals the first class."""
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [{"class": classes[index], "probability": float(row[index])} for index in best]
        for row, best in zip(probabilities, order, strict=True)
    ]


def _heatmap_columns(heatmaps: Sequence[Heatmap]) -> dict[str, list]:
    return {
        "method": [each.method for each in heatmaps],
        "target": [each.target for each in heatmaps],
        "grid": [list(each.attribution.shape) for each in heatmaps],
        "attribution": [each.attribution for each in heatmaps],
        "heatmap": [base64.b64encode(each.png).decode("ascii") for each in heatmaps],
    }


def schema(classes: tuple[str, ...]) -> Schema:
    numbers = [ColSpec(DataType.double, name) for name in ("probability", *(f"p_{name}" for name in classes))]
    asked: dict[str, DataType | AnyType] = {name: DataType.string for name in ("method", "target", "heatmap")}
    asked |= {name: AnyType() for name in ("top_k", "grid", "attribution")}
    return Schema(
        [
            ColSpec(DataType.string, "label"),
            *numbers,
            *(ColSpec(kind, name, required=False) for name, kind in asked.items()),
        ]
    )
