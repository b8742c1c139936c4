"""What MLflow keeps of a model: checkpoint, receipt, this package, signature, an example and pinned requirements."""

import base64
import io
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema
from mlflow.types.schema import AnyType
from PIL import Image

import pipeline
from pipeline.records import CHECKPOINT, Explanation, Receipt
from pipeline.serving.answers import schema
from pipeline.serving.classifier import COLUMN
from pipeline.serving.wanted import PARAMS

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

# What loading, predicting and drawing heatmaps import, at the versions that are installed here.
REQUIREMENTS = (
    "huggingface-hub", "jaxtyping", "matplotlib", "numpy", "pandas", "pillow", "pydantic", "pyyaml", "safetensors",
    "timm", "torch", "torchvision",
)  # fmt: skip
EXAMPLE_PARAMS = {"method": "gradcam", "target": "", "top_k": 2, "return_heatmap": True}


def save_servable(model: "LoggedModel", model_dir: Path, heatmap_dir: Path, folder: Path) -> None:
    """Writes what MLflow keeps of a model into `folder`.

    Args:
        model_dir: has the checkpoint and its receipt.
        heatmap_dir: has explanation.json, for the model explains as it was explained.
    """
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
        artifacts={
            "checkpoint": str(model_dir / CHECKPOINT),
            "receipt": str(model_dir / Receipt.file_name),
            "explanation": str(heatmap_dir / Explanation.file_name),
        },
        code_paths=[str(package)],
        signature=signature(receipt.classes),
        input_example=(pd.DataFrame({COLUMN: [example_image(receipt.image_size_px)]}), EXAMPLE_PARAMS),
        pip_requirements=requirements(),
    )


def signature(classes: tuple[str, ...]) -> ModelSignature:
    """An image comes in many forms, so its column is of any type, and `pipeline.serving.decoding` checks it."""
    return ModelSignature(Schema([ColSpec(AnyType(), COLUMN)]), schema(classes), PARAMS)


def requirements() -> list[str]:
    """Pins without a local version: `2.13.0+cpu` is on no public index."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]


def example_image(image_size_px: int) -> str:
    """A grey ramp as a PNG file in base64: no image of a patient goes into the registry."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((image_size_px, image_size_px)).convert("RGB").save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
