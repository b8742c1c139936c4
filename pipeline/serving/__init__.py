"""The registered model as MLflow serves it: encoded images in, class names and probabilities out.

It is a pyfunc "model from code": the folder that MLflow keeps holds the checkpoint, this package and a three-line entry
(`entry.py`); nothing in it is pickled.
"""

import base64
import binascii
import io
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.pyfunc
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

import pipeline
from pipeline.data.images import UnreadableError, square_image
from pipeline.data.prepared import to_tensor
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import CHECKPOINT, Receipt

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

COLUMN = "image"
BATCH_SIZE = 32
# What loading and predicting import, at the versions that are installed here.
REQUIREMENTS = (
    "huggingface-hub", "jaxtyping", "numpy", "pandas", "pillow", "pydantic", "pyyaml", "safetensors", "timm", "torch",
    "torchvision",
)  # fmt: skip


class ServedClassifier(PythonModel):
    """Label, its probability and the probability of every class for each row's image."""

    def load_context(self, context: PythonModelContext) -> None:
        self.classifier, self.description = load_checkpoint(Path(context.artifacts["checkpoint"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict | None = None
    ) -> pd.DataFrame:
        """One row for each row of `model_input`, whose column `image` holds image files, as bytes or in base64.

        Raises:
            MlflowException: the column is missing, or a row is not an image; the row is named.
        """
        images = decode_rows(model_input, self.description.image_size_px)
        return as_table(self._probabilities(images), self.description.classes)

    def _probabilities(self, images: UInt8[np.ndarray, "n s s 3"]) -> Float[np.ndarray, "n classes"]:
        with torch.inference_mode():
            batches = [self.classifier(to_tensor(batch)).softmax(dim=1) for batch in _split(images)]
        return torch.cat(batches).numpy()


def decode_rows(rows: pd.DataFrame, image_size_px: int) -> UInt8[np.ndarray, "n s s 3"]:
    if COLUMN not in rows or rows.empty:
        raise _refusal(f"the input needs at least one row and a column `{COLUMN}` of image files in base64")
    return np.stack([_decode(value, row, image_size_px) for row, value in enumerate(rows[COLUMN])])


def as_table(probabilities: Float[np.ndarray, "n classes"], classes: tuple[str, ...]) -> pd.DataFrame:
    best = probabilities.argmax(axis=1)
    columns = {f"p_{name}": probabilities[:, index].astype(float) for index, name in enumerate(classes)}
    labels = [classes[index] for index in best]
    return pd.DataFrame({"label": labels, "probability": probabilities.max(axis=1).astype(float), **columns})


def _decode(value: object, row: int, image_size_px: int) -> UInt8[np.ndarray, "s s 3"]:
    try:
        return square_image(_as_bytes(value, row), image_size_px)
    except UnreadableError as error:
        raise _refusal(f"row {row}: {error}") from None


def _as_bytes(value: object, row: int) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode("".join(str(value).split()), validate=True)  # the `base64` command breaks lines
    except (binascii.Error, ValueError):
        raise _refusal(f"row {row}: `{COLUMN}` is neither bytes nor base64") from None


def _split(images: UInt8[np.ndarray, "n s s 3"]) -> list[UInt8[np.ndarray, "b s s 3"]]:
    return np.array_split(images, range(BATCH_SIZE, len(images), BATCH_SIZE))


def _refusal(message: str) -> MlflowException:
    return MlflowException(message, error_code=INVALID_PARAMETER_VALUE)


def save_servable(model: "LoggedModel", model_dir: Path, folder: Path) -> None:
    """Writes what MLflow keeps of a model into `folder`, from the checkpoint and the receipt in `model_dir`."""
    receipt = Receipt.read(model_dir)
    package = Path(pipeline.__file__).parent
    identity = Model(
        artifact_path=model.artifact_location,
        model_uuid=model.model_id,
        model_id=model.model_id,
        run_id=model.source_run_id,
    )
    mlflow.pyfunc.save_model(
        path=str(folder),
        mlflow_model=identity,
        python_model=str(package / "serving" / "entry.py"),
        artifacts={"checkpoint": str(model_dir / CHECKPOINT), "receipt": str(model_dir / Receipt.file_name)},
        code_paths=[str(package)],
        signature=signature(receipt.classes),
        input_example=pd.DataFrame({COLUMN: [example_image(receipt.image_size_px)]}),
        pip_requirements=requirements(),
    )


def signature(classes: tuple[str, ...]) -> ModelSignature:
    numbers = [ColSpec(DataType.double, name) for name in ("probability", *(f"p_{name}" for name in classes))]
    return ModelSignature(
        Schema([ColSpec(DataType.string, COLUMN)]), Schema([ColSpec(DataType.string, "label"), *numbers])
    )


def requirements() -> list[str]:
    """Pins without a local version: `2.13.0+cpu` is on no public index."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def example_image(image_size_px: int) -> str:
    """A grey square as a PNG file in base64: no image of a patient goes into the registry."""
    buffer = io.BytesIO()
    Image.new("RGB", (image_size_px, image_size_px), (128, 128, 128)).save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
