"""What the receipt of a fine-tuned model says of the weights it started from, through a real fine-tuning."""

import shutil

import pytest

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.records import Receipt
from tests.models.test_hub_folder import ODD, as_written_by_timm
from tests.models.test_weights import save_backbone
from tests.prepared import write_prepared
from tests.test_training import PARAMS, fit, hashes

SHORT = PARAMS.model_copy(update={"epochs": 1, "warmup_epochs": 0})


@pytest.fixture
def prepared(tmp_path):
    return write_prepared(tmp_path / "prepared")


def test_the_receipt_tells_the_file_of_a_hub_folder(prepared, tmp_path):
    as_written_by_timm(tmp_path / "hub", "vit")
    folder = fit(prepared, "run", params=SHORT, weights=str(tmp_path / "hub"))
    receipt = Receipt.read(folder)
    assert receipt.weights == "hub"
    assert receipt.weights_sha256 == sha256_of(tmp_path / "hub" / "model.safetensors")
    assert receipt.weights_licence == "cc-by-nc-4.0"
    assert receipt.mean == load_checkpoint(folder / "model.safetensors")[1].mean == tuple(ODD["mean"])


def test_from_scratch_the_receipt_tells_no_file(prepared):
    receipt = Receipt.read(fit(prepared, "run", params=SHORT))
    assert (receipt.weights, receipt.weights_sha256, receipt.weights_licence) == ("none", "", "")


def test_equal_weights_in_another_place_give_equal_bytes(prepared, tmp_path):
    save_backbone("vit", tmp_path / "vit.safetensors")
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "vit.safetensors", tmp_path / "elsewhere")
    here, there = (
        fit(prepared, name, params=SHORT, weights=str(folder / "vit.safetensors"))
        for name, folder in (("here", tmp_path), ("there", tmp_path / "elsewhere"))
    )
    assert hashes(here) == hashes(there)
    for name in ("receipt.json", "model.safetensors"):
        assert str(tmp_path).encode() not in (here / name).read_bytes()


def test_another_file_than_the_hash_says_is_refused_before_anything_is_written(prepared, tmp_path):
    save_backbone("vit", tmp_path / "vit.safetensors")
    with pytest.raises(StudyError, match=r"models\.vit\.weights_sha256: .*vit\.safetensors has"):
        fit(prepared, "run", params=SHORT, weights=str(tmp_path / "vit.safetensors"), weights_sha256="0" * 64)
    assert not (tmp_path / "run" / "model").exists()
