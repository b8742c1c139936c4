"""A registered model loaded and called as a user does it, against the classifier it was made from."""

import base64
import io
import json
import subprocess
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline import serving
from pipeline.files import sha256_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Receipt
from tests.cells import published_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


@pytest.fixture(scope="module")
def folder(study):
    """What MLflow keeps of the model."""
    version = study.client.get_model_version("busi-classifier", "1")
    model = study.client.get_logged_model(version.source.rpartition("/")[2])
    return Path(model.artifact_location.removeprefix("file://"))


@pytest.fixture(scope="module")
def served(study):
    return mlflow.pyfunc.load_model("models:/busi-classifier/1")


@pytest.fixture(scope="module")
def images(study):
    return np.load(study.data / "prepared/busi/images.npy")[:5]


def as_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def in_base64(images: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"image": [base64.b64encode(as_png(image)).decode() for image in images]})


def test_probabilities_are_the_classifiers_own(study, served, images):
    classifier, description = load_checkpoint(study.data / "models/busi/vit/model.safetensors")
    with torch.inference_mode():
        own = classifier(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).softmax(dim=1).numpy()
    answer = served.predict(in_base64(images))
    np.testing.assert_allclose(answer[[f"p_{name}" for name in description.classes]], own, atol=1e-5)
    assert list(answer["label"]) == [description.classes[index] for index in own.argmax(axis=1)]
    np.testing.assert_allclose(answer["probability"], own.max(axis=1), atol=1e-5)


def test_bytes_and_base64_are_the_same_image(served, images):
    raw = pd.DataFrame({"image": [as_png(image) for image in images]})
    pd.testing.assert_frame_equal(served.predict(raw), served.predict(in_base64(images)))


def test_base64_may_be_broken_into_lines(served, images):
    wrapped = pd.DataFrame({"image": [base64.encodebytes(as_png(images[0])).decode()]})
    pd.testing.assert_frame_equal(served.predict(wrapped), served.predict(in_base64(images[:1])))


def test_a_batch_is_its_images_one_by_one(served, images):
    many = in_base64(np.concatenate([images] * (serving.BATCH_SIZE // 5 + 1)))
    single = pd.concat([served.predict(many.iloc[[row]]) for row in range(5)], ignore_index=True)
    pd.testing.assert_frame_equal(served.predict(many)[:5], single, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "reason"), [("%%%", "row 0: .* neither"), ("YWJj", "row 0: "), (b"abc", "row 0: "), ("", "row 0: ")]
)
def test_a_row_that_is_no_image_is_refused_by_number(served, value, reason):
    with pytest.raises(MlflowException, match=reason) as caught:
        served.predict(pd.DataFrame({"image": [value]}))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "\n" not in caught.value.message


def test_rows_that_are_missing_are_refused(served):
    with pytest.raises(MlflowException, match="at least one row"):
        served.predict(pd.DataFrame({"image": pd.Series([], dtype=str)}))
    with pytest.raises(MlflowException, match="image"):
        served.predict(pd.DataFrame({"picture": ["YWJj"]}))


def test_the_example_in_the_registry_is_answered(served):
    assert len(served.predict(served.input_example)) == 1


def test_the_signature_names_every_class(served):
    assert served.metadata.signature.inputs.input_names() == ["image"]
    assert served.metadata.signature.outputs.input_names() == [
        "label", "probability", "p_normal", "p_benign", "p_malignant",
    ]  # fmt: skip


def test_the_folder_holds_no_pickle(folder):
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file() and "code" not in path.parts}
    assert kinds <= {"", ".py", ".yaml", ".txt", ".json", ".md", ".safetensors"}
    assert not [path for path in folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".pyc", ".bin")]


def test_checkpoint_and_receipt_travel_with_the_model(folder):
    receipt = Receipt.read(folder / "artifacts")
    assert receipt.checkpoint_sha256 == sha256_of(folder / "artifacts" / "model.safetensors")


def test_requirements_are_pinned_to_what_any_index_has():
    assert all("==" in line and "+" not in line for line in serving.requirements())


@pytest.mark.slow
def test_a_process_without_the_checkout_can_serve_it(folder, images, tmp_path):
    """The folder alone is enough, and it imports nothing that its requirements do not name."""
    (tmp_path / "rows.json").write_text(in_base64(images).to_json(orient="split"))
    script = f"""
import json, sys
sys.path[:] = [path for path in sys.path if path]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import mlflow.pyfunc, pandas as pd
model = mlflow.pyfunc.load_model({str(folder)!r})
answer = model.predict(pd.DataFrame(**json.load(open("rows.json"))))
import pipeline
heavy = [name for name in ("albumentations", "imagehash", "dvc", "prefect") if name in sys.modules]
print(json.dumps([pipeline.__file__, heavy, len(answer)]))
"""
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    origin, heavy, rows = json.loads(result.stdout.splitlines()[-1])
    assert Path(origin).is_relative_to(folder)
    assert (heavy, rows) == ([], 5)
