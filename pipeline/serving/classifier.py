"""The registered model: a pyfunc "model from code" that predicts, and explains what it predicts.

The folder that MLflow keeps holds the checkpoint, its receipt, this package and a script (`entry.py`); nothing in it is
pickled. Clients may call one loaded model from many threads.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from mlflow.pyfunc import PythonModel, PythonModelContext

from pipeline.data.prepared import to_tensor
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Explanation, HeatmapLineage, Receipt
from pipeline.serving.answers import Heatmap, as_table
from pipeline.serving.decoding import DecodedImage, decode_images, forms
from pipeline.serving.heatmaps import OVERLAY_PX, explainer_of, fitting_methods, overlay_png, settings_of
from pipeline.serving.limits import allowed_methods, check_rows, deadline, until
from pipeline.serving.mlflow_server import is_mlflow_models_serve, mend_errors
from pipeline.serving.refusals import Refusal
from pipeline.serving.wanted import Wanted, read_wanted

COLUMN = "image"
BATCH_SIZE = 32


class ServedClassifier(PythonModel):
    """Label, its probability and the probability of every class for each row's image; a heatmap if asked for."""

    def load_context(self, context: PythonModelContext) -> None:
        """
        Raises:
            StudyError: the checkpoint is damaged, or not the one of the receipt, whose hash heatmaps and servers show.
        """
        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        receipt = Receipt.read_from(artifacts["receipt"])
        self.classifier, self.description = load_checkpoint(artifacts["checkpoint"])
        _check_checkpoint(artifacts["checkpoint"], receipt)
        self.lineage = HeatmapLineage(
            dataset=receipt.dataset, model=receipt.model, checkpoint_sha256=receipt.checkpoint_sha256
        )
        settings = settings_of(Explanation.read_from(artifacts["explanation"]))
        self.methods = fitting_methods(self.classifier, settings)
        self.explainer = explainer_of(self.classifier, settings)
        self.decoders = ThreadPoolExecutor(os.cpu_count())
        if is_mlflow_models_serve():
            mend_errors()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row for each row of `model_input`, whose column `image` holds images in any of the `forms`.

        Args:
            params: see `pipeline.serving.wanted`.

        Raises:
            Refusal: the column is missing, a row is not an image (it is named), a param is none of its choices, or a
                server is asked for more than its limits allow.
        """
        end = deadline()
        wanted = read_wanted(params, allowed_methods(self.methods), self.description.classes)
        values = values_of(model_input)
        check_rows(len(values), wanted.return_heatmap)
        picture_px = OVERLAY_PX if wanted.return_heatmap else None
        images = list(until(end, decode_images(values, self.description.image_size_px, picture_px, self.decoders)))
        probabilities = self._probabilities(np.stack([image.square for image in images]), end)
        heatmaps = self._heatmaps(until(end, images), probabilities, wanted) if wanted.return_heatmap else []
        return as_table(probabilities, self.description.classes, wanted.top_k, heatmaps)

    def _probabilities(self, images: UInt8[np.ndarray, "n s s 3"], end: float) -> Float[np.ndarray, "n classes"]:
        with torch.inference_mode():
            batches = [self.classifier(to_tensor(batch)).softmax(dim=1) for batch in until(end, _split(images))]
        return torch.cat(batches).numpy()

    def _heatmaps(
        self, images: Iterable[DecodedImage], probabilities: Float[np.ndarray, "n classes"], wanted: Wanted
    ) -> list[Heatmap]:
        classes = self.description.classes
        targets = [wanted.target or classes[index] for index in probabilities.argmax(axis=1)]
        return [
            self._heatmap(row, image, wanted.method, target)
            for row, (image, target) in enumerate(zip(images, targets, strict=True))
        ]

    def _heatmap(self, row: int, image: DecodedImage, method: str, target: str) -> Heatmap:
        assert image.picture is not None
        try:
            attribution = self.explainer.attribution(image.square, method, self.description.classes.index(target))
        except StudyError as error:
            raise Refusal(f"row {row}: {error}") from None
        lineage = self.lineage.model_copy(update={"method": method, "target": target})
        return Heatmap(attribution, overlay_png(image.picture, attribution, lineage), method, target)


def _check_checkpoint(path: Path, receipt: Receipt) -> None:
    if sha256_of(path) != receipt.checkpoint_sha256:
        raise StudyError(f"{path}: not the checkpoint of its receipt; run `python -m flows.publish` to upload it anew")


def values_of(rows: pd.DataFrame) -> list[object]:
    """The images of the rows.

    Raises:
        Refusal: there is no such column, or no row.
    """
    values = list(rows[COLUMN]) if COLUMN in rows else []
    if len(values) == 1 and _is_folded(values[0]):
        values = list(values[0])
    if not values:
        raise Refusal(f"the input needs at least one row and a column `{COLUMN}`: {forms()}")
    return values


def _is_folded(value: object) -> bool:
    """MLflow's schema makes one row of `{"inputs": ["...", "..."]}`, as it would of a column of lists of strings."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _split(images: UInt8[np.ndarray, "n s s 3"]) -> list[UInt8[np.ndarray, "b s s 3"]]:
    return np.array_split(images, range(BATCH_SIZE, len(images), BATCH_SIZE))
