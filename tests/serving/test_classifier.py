"""A registered model loaded and called as a user does it, against the classifier it was made from."""

import base64
import io
import json
from concurrent.futures import ThreadPoolExecutor

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image

from pipeline.explain import explain
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Receipt
from pipeline.report.overlays import draw_heatmap
from pipeline.serving.classifier import BATCH_SIZE
from pipeline.serving.heatmaps import OVERLAY_PX, weight_sharing_copy
from tests.serving.worlds import as_png, in_base64

pytestmark = pytest.mark.slow

HEATMAP = {"return_heatmap": True}


@pytest.fixture(scope="module")
def checkpoint(study):
    return load_checkpoint(study.data / "models/busi/vit/model.safetensors")


def as_images(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def png_of(row: pd.Series) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(row["heatmap"], validate=True)))


def test_probabilities_are_the_classifiers_own(checkpoint, served, images):
    classifier, description = checkpoint
    with torch.inference_mode():
        own = classifier(as_images(images)).softmax(dim=1).numpy()
    answer = served.predict(in_base64(images))
    np.testing.assert_allclose(answer[[f"p_{name}" for name in description.classes]], own, atol=1e-5)
    assert list(answer["label"]) == [description.classes[index] for index in own.argmax(axis=1)]
    np.testing.assert_allclose(answer["probability"], own.max(axis=1), atol=1e-5)
    assert list(answer.columns) == ["label", "probability", "p_normal", "p_benign", "p_malignant"]


@pytest.mark.parametrize(
    "given",
    [
        lambda images: pd.DataFrame({"image": [as_png(image) for image in images]}),
        lambda images: pd.DataFrame({"image": list(images)}),
        lambda images: pd.Series([as_png(image) for image in images], name="image"),
        lambda images: {"image": images},
        lambda images: {"image": [as_png(image) for image in images]},
        lambda images: in_base64(images).to_dict(orient="list"),
        lambda images: in_base64(images).to_dict(orient="records"),
    ],
    ids=["bytes", "arrays", "series", "dict of array", "dict of bytes", "dict of texts", "records"],
)
def test_every_container_that_mlflow_lets_through_is_the_same_rows(given, served, images):
    pd.testing.assert_frame_equal(served.predict(given(images)), served.predict(in_base64(images)))


def test_a_single_image_may_come_without_a_list(served, images):
    single = in_base64(images)["image"][0]
    pd.testing.assert_frame_equal(served.predict({"image": single}), served.predict(in_base64(images[:1])))


def test_a_batch_is_its_images_one_by_one(served, images):
    many = in_base64(np.concatenate([images] * (BATCH_SIZE // 5 + 1)))
    single = pd.concat([served.predict(many.iloc[[row]]) for row in range(5)], ignore_index=True)
    pd.testing.assert_frame_equal(served.predict(many)[:5], single, atol=1e-5)


def test_rows_that_are_missing_are_refused(served):
    with pytest.raises(MlflowException, match="at least one row"):
        served.predict(pd.DataFrame({"image": pd.Series([], dtype=str)}))
    with pytest.raises(MlflowException, match="image"):
        served.predict(pd.DataFrame({"picture": ["YWJj"]}))


def test_top_k_names_the_best_classes_in_order(served, images):
    answer = served.predict(in_base64(images), params={"top_k": 2})
    for _, row in answer.iterrows():
        best, second = row["top_k"]
        assert best == {"class": row["label"], "probability": row["probability"]}
        assert second["probability"] == sorted(row[["p_normal", "p_benign", "p_malignant"]])[1]


@pytest.mark.parametrize("method", ["gradcam", "gradient_rollout", "legrad"])
@pytest.mark.parametrize("target", ["", "malignant"])
def test_an_attribution_is_exactly_that_of_explain(method, target, checkpoint, served, images):
    classifier, description = checkpoint
    answer = served.predict(in_base64(images[:2]), params=HEATMAP | {"method": method, "target": target})
    for row, image in zip(answer.itertuples(), images[:2], strict=True):
        assert row.target == (target or row.label)
        own = explain(classifier, as_images(image[None]), method, [description.classes.index(row.target)])[method][0]
        np.testing.assert_array_equal(row.attribution, own.numpy())
        assert (row.grid, row.method) == ([*own.shape], method)


def test_heatmaps_of_a_batch_are_those_of_its_images_and_leave_predictions_alone(served, images):
    rows = in_base64(images)
    together = served.predict(rows, params=HEATMAP)
    for row in range(len(rows)):
        alone = served.predict(rows.iloc[[row]], params=HEATMAP).iloc[0]
        np.testing.assert_array_equal(alone["attribution"], together["attribution"][row])
        assert alone["heatmap"] == together["heatmap"][row]
    plain = served.predict(rows)
    pd.testing.assert_frame_equal(together[plain.columns], plain)


def test_the_overlay_is_the_studys_drawing_in_the_images_own_aspect(served, images):
    wide = Image.fromarray(images[0]).resize((60, 30))
    row = served.predict(pd.DataFrame({"image": [as_png(np.asarray(wide))]}), params=HEATMAP).iloc[0]
    drawn = Image.fromarray(draw_heatmap(np.asarray(wide), row["attribution"], OVERLAY_PX))
    expected = drawn.resize((OVERLAY_PX, OVERLAY_PX // 2), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(np.asarray(png_of(row)), np.asarray(expected))


def test_the_overlay_says_which_model_made_it(study, served, images):
    params = HEATMAP | {"method": "legrad", "target": "benign"}
    row = served.predict(in_base64(images[:1]), params=params).iloc[0]
    receipt = Receipt.read(study.data / "models/busi/vit")
    assert json.loads(png_of(row).text["lineage"]) == {
        "dataset": "busi",
        "model": "vit",
        "checkpoint_sha256": receipt.checkpoint_sha256,
        "method": "legrad",
        "target": "benign",
    }


@pytest.mark.parametrize("params", [{"method": "lime"}, {"target": "cyst"}, {"top_k": 4}, {"top_k": -1}])
def test_a_param_that_is_none_of_its_choices_is_refused_in_one_line(params, served, images):
    with pytest.raises(MlflowException, match="choose from") as refused:
        served.predict(in_base64(images[:1]), params=params)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    assert "\n" not in refused.value.message


def test_threads_that_predict_and_explain_get_the_serial_answers(served, images):
    rows = in_base64(images)
    asked = [None, HEATMAP, {"top_k": 1}, HEATMAP | {"method": "gradient_rollout"}, HEATMAP | {"target": "benign"}]
    serial = [served.predict(rows, params=params) for params in asked]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda number: served.predict(rows, params=asked[number % 5]), range(40)))
    for number, answer in enumerate(answers):
        assert_same(answer, serial[number % 5])


def assert_same(answer: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert list(answer.columns) == list(expected.columns)
    for name in expected:
        if name == "attribution":
            np.testing.assert_array_equal(np.stack(answer[name]), np.stack(expected[name]))
        else:
            pd.testing.assert_series_equal(answer[name], expected[name])


def test_the_explaining_copy_shares_weights_but_no_module(checkpoint):
    classifier, _ = checkpoint
    copied = weight_sharing_copy(classifier)
    pairs = list(zip(classifier.named_parameters(), copied.named_parameters(), strict=True))
    assert all(own[0] == other[0] and own[1].data_ptr() == other[1].data_ptr() for own, other in pairs)
    assert not set(classifier.modules()) & set(copied.modules())
    assert all(weight.requires_grad for weight in classifier.parameters())


def test_the_example_in_the_registry_is_answered_with_a_heatmap(served, folder):
    params = mlflow.models.Model.load(str(folder)).load_input_example_params(str(folder))
    answer = served.predict(served.input_example, params=params)
    assert len(answer) == 1
    assert "heatmap" in answer
