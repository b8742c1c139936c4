"""Which registered version is served, and what is said where there is none, or where its weights were exchanged."""

import shutil

import mlflow.pyfunc
import pytest

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.serving.application import find_served, listen, load_served
from tests.ports import free_port

pytestmark = pytest.mark.slow


def test_an_alias_and_a_number_lead_to_the_same_version(study):
    assert find_served("busi", "champion", None) == find_served("busi", "anything", 1)


def test_the_checkpoint_that_answers_show_is_that_of_the_weights_whatever_a_tag_says(study):
    study.client.set_model_version_tag("busi-classifier", "1", "checkpoint_sha256", "0" * 64)
    checkpoint = sha256_of(study.data / "models/busi/vit/model.safetensors")
    try:
        served = load_served(find_served("busi", "champion", None))
    finally:
        study.client.set_model_version_tag("busi-classifier", "1", "checkpoint_sha256", checkpoint)
    assert served.headers == {"X-Model-Version": "busi-classifier/1", "X-Checkpoint-SHA256": checkpoint}
    assert str(served) == f"version 1 of busi-classifier (checkpoint {checkpoint})"


def test_weights_that_are_not_those_of_the_receipt_are_not_served(folder, tmp_path):
    exchanged = shutil.copytree(folder, tmp_path / "model")
    with (exchanged / "artifacts/model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)[0]
        weights.seek(-1, 2)
        weights.write(bytes([last ^ 1]))
    with pytest.raises(StudyError, match=r"model.safetensors: not the checkpoint of its receipt"):
        mlflow.pyfunc.load_model(str(exchanged))


@pytest.mark.parametrize(
    ("alias", "number", "named"), [("challenger", None, "alias challenger"), ("champion", 9, "version 9")]
)
def test_a_version_that_is_not_there_is_refused_with_the_way_to_promote_one(alias, number, named, study):
    with pytest.raises(
        StudyError, match=f"^busi-classifier: {named} .*python -m flows.promote --dataset busi"
    ) as error:
        find_served("busi", alias, number)
    assert "\n" not in str(error.value)


def test_a_store_that_is_lost_is_not_taken_for_an_empty_one(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StudyError) as error:
        find_served("busi", "champion", None)
    assert "not in the registry" not in str(error.value)


def test_a_port_that_is_taken_is_refused_before_a_model_is_loaded():
    with listen("127.0.0.1", 0) as listener, pytest.raises(StudyError, match="choose another --host or --port"):
        listen("127.0.0.1", listener.getsockname()[1])
