"""What is recorded of the weights that a fine-tuning starts from: hash, licence, origin, and that the hash is right."""

import shutil
from dataclasses import astuple
from pathlib import Path

import pytest
from huggingface_hub import constants
from pydantic import ValidationError

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models import hub as hub_module
from pipeline.models.provenance import NOT_STATED, Provenance, provenance_of
from pipeline.params import ModelParams, load_params
from pipeline.records import PretrainingReceipt
from tests.models.hub_server import running_hub
from tests.models.test_hub import use_endpoint
from tests.models.test_hub_folder import as_written_by_timm, change_config
from tests.models.test_weights import save_backbone

ROOT = Path(__file__).parents[2]
EMBEDDED, PAPER = (load_params(ROOT / name).models for name in ("params.yaml", "params/paper.yaml"))
ARCH = "vit_tiny_patch16_224"
OF_HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256("hello")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running_hub() as hub:
        use_endpoint(monkeypatch, hub.address)
        yield hub


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file.pth").write_bytes(b"hello")
    return str(tmp_path / "file.pth")


def test_from_scratch_there_is_nothing_to_say():
    assert astuple(provenance_of(ARCH, "none", None)) == ("", "", "", "")


@pytest.mark.parametrize(
    ("model", "licence"), [("vit", "apache-2.0"), ("deit", "apache-2.0"), ("dino", "apache-2.0"), ("swin", "mit")]
)
def test_the_papers_weights_have_timms_licence_and_a_page(model, licence, hub):
    arch, tag = PAPER[model].arch, PAPER[model].weights
    hub.files[f"timm/{arch}.{tag}/model.safetensors"] = b"hello"
    page = f"https://huggingface.co/timm/{arch}.{tag}"
    expected = Provenance(OF_HELLO, licence, f"timm's record of {arch}.{tag}", page)
    assert provenance_of(arch, tag, OF_HELLO) == expected


@pytest.mark.parametrize("model", EMBEDDED)
def test_the_shipped_weights_are_the_projects(model):
    weights = ROOT / EMBEDDED[model].weights
    found = provenance_of(EMBEDDED[model].arch, str(weights), None)
    assert found.weights_sha256 == sha256_of(weights)
    assert found.weights_licence == "Apache-2.0"
    assert found.weights_licence_source.startswith(f"{model}.json beside the file")


def test_weights_pretrained_on_images_of_ones_own_are_not_given_the_projects_licence(tmp_path):
    shipped = ROOT / EMBEDDED["vit"].weights
    shutil.copy(shipped, tmp_path / "vit.safetensors")
    receipt = PretrainingReceipt.read_from(shipped.with_suffix(".json"))
    receipt.model_copy(update={"sources": {"pbc": "phantom", "mine": "scans"}}).write_to(tmp_path / "vit.json")
    assert provenance_of(ARCH, str(tmp_path / "vit.safetensors"), None).weights_licence == NOT_STATED


def test_a_folders_licence_is_that_of_its_config(tmp_path):
    as_written_by_timm(tmp_path / "hub", "vit")
    found = provenance_of(ARCH, str(tmp_path / "hub"), None)
    expected = ("cc-by-nc-4.0", "config.json beside the file", "")
    assert (found.weights_licence, found.weights_licence_source, found.weights_origin) == expected


def test_a_folders_licence_is_else_that_of_its_readme(tmp_path):
    as_written_by_timm(tmp_path, "vit")
    change_config(tmp_path, lambda config: config["pretrained_cfg"].pop("license"))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    found = provenance_of(ARCH, str(tmp_path), None)
    assert (found.weights_licence, found.weights_licence_source) == ("mit", "README.md beside the file")


def test_a_lone_file_states_no_licence_unless_arch_names_its_tag(file):
    assert astuple(provenance_of(ARCH, file, None)) == (OF_HELLO, NOT_STATED, "", "")
    tagged = "vit_base_patch16_224.dino"
    found = provenance_of(tagged, file, None)
    assert found.weights_licence == "apache-2.0"
    assert found.weights_licence_source == f"timm's record of {tagged}, which `arch` says the file to be"


def test_nothing_recorded_names_this_machine(tmp_path):
    as_written_by_timm(tmp_path / "models--a--b" / "snapshots" / "0123", "vit")
    save_backbone("vit", tmp_path / "file.safetensors")
    for weights in (tmp_path / "models--a--b" / "snapshots" / "0123", tmp_path / "file.safetensors"):
        assert str(tmp_path) not in repr(provenance_of(ARCH, str(weights), None))


def test_the_hash_of_a_file_is_checked(file):
    assert provenance_of(ARCH, file, OF_HELLO).weights_sha256 == OF_HELLO
    message = rf"weights_sha256: .*file\.pth has {OF_HELLO}, not {'0' * 64}; give the file that is meant"
    with pytest.raises(StudyError, match=message):
        provenance_of(ARCH, file, "0" * 64)


def test_the_hash_of_a_folders_weights_is_checked(tmp_path):
    as_written_by_timm(tmp_path, "vit")
    right = sha256_of(tmp_path / "model.safetensors")
    assert provenance_of(ARCH, str(tmp_path), right).weights_sha256 == right
    with pytest.raises(StudyError, match=r"weights_sha256: .*model\.safetensors"):
        provenance_of(ARCH, str(tmp_path), "0" * 64)


def test_the_hash_of_a_download_is_checked(hub):
    hub.files["timm/vit_base_patch16_224.dino/model.safetensors"] = b"hello"
    with pytest.raises(StudyError, match=rf"weights_sha256: .*{OF_HELLO}"):
        provenance_of("vit_base_patch16_224", "dino", "0" * 64)


def test_a_dead_hub_is_told_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub_module, "GIVE_UP_S", 1.0)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(StudyError, match="Connection refused"):
        provenance_of("vit_base_patch16_224", "dino", None)


def own_model(**changes):
    return ModelParams(**{"arch": ARCH, "arch_options": {}, "weights": "a/b.pth", "learning_rate": 1e-3} | changes)


def test_the_hash_is_optional_and_may_be_null():
    assert own_model().weights_sha256 is own_model(weights_sha256=None).weights_sha256 is None
    assert own_model(weights_sha256=OF_HELLO).weights_sha256 == OF_HELLO


@pytest.mark.parametrize("value", ["", "abc", OF_HELLO.upper(), OF_HELLO + "0"])
def test_what_is_no_hash_is_refused(value):
    with pytest.raises(ValidationError, match="weights_sha256"):
        own_model(weights_sha256=value)


def test_a_hash_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="weights_sha256 is given, but weights: none reads no file"):
        own_model(weights="none", weights_sha256=OF_HELLO)
