"""The registered model in an environment made from nothing but the requirements that were logged with it.

pip takes gigabytes and minutes, so an environment outlives the test where STUDY_FRESH_ENVIRONMENT names its folder.
"""

import base64
import io
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.records import Receipt
from tests.cells import published_study

SCRIPT = """
import json, sys
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
answer = model.predict(pd.DataFrame({"image": ["image.png"]}), params={"return_heatmap": True, "top_k": 3})
import pipeline
row = answer.iloc[0].to_dict()
print(json.dumps({**row, "attribution": row["attribution"].tolist(), "code": pipeline.__file__}))
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """In the default store: what is tested is the model's folder, which every store keeps alike."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


@pytest.fixture(scope="module")
def folder(study) -> Path:
    return study.model_folder()


@pytest.fixture(scope="module")
def python(folder, tmp_path_factory) -> Path:
    """The interpreter of an environment with the model's requirements."""
    kept = os.environ.get("STUDY_FRESH_ENVIRONMENT")
    place = Path(kept) if kept else tmp_path_factory.mktemp("environment")
    interpreter = place / "bin" / "python"
    if not interpreter.exists():
        venv.create(place, with_pip=True)
    install = [interpreter, "-m", "pip", "install", "--quiet", "-r", folder / "requirements.txt"]
    result = subprocess.run(install, env=outside_the_checkout(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return interpreter


def outside_the_checkout() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def test_it_predicts_and_explains_outside_the_checkout(study, folder, python, tmp_path):
    image = Image.fromarray(np.load(study.data / "prepared/busi/images.npy")[0])
    image.save(tmp_path / "image.png")
    command = [python, "-c", SCRIPT, folder]
    result = subprocess.run(
        command, cwd=tmp_path, env=outside_the_checkout(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.splitlines()[-1])
    assert Path(answer["code"]).is_relative_to(folder)
    assert np.isfinite(answer["attribution"]).all()
    overlay = Image.open(io.BytesIO(base64.b64decode(answer["heatmap"])))
    lineage = json.loads(overlay.text["lineage"])
    assert lineage["checkpoint_sha256"] == Receipt.read(study.data / "models/busi/vit").checkpoint_sha256
    assert sys.prefix not in answer["code"]
