"""A finished study in miniature whose one model is registered, promoted and loaded."""

from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest

from tests.cells import published_study


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        study.client.set_registered_model_alias("busi-classifier", "champion", "1")
        yield study


@pytest.fixture(scope="session")
def folder(study) -> Path:
    """What MLflow keeps of the model."""
    return study.model_folder()


@pytest.fixture(scope="session")
def served(study):
    return mlflow.pyfunc.load_model("models:/busi-classifier@champion")


@pytest.fixture(scope="session")
def images(study) -> np.ndarray:
    return np.load(study.data / "prepared/busi/images.npy")[:5]
