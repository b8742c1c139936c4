"""A folder in the hub's format, as timm writes it: normalisation, architecture, weights and licence come from it."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.errors import StudyError
from pipeline.models.hub_folder import config_in, licence_in_readme, weights_in
from pipeline.models.weights import pretrained_cfg, weights_file
from tests.models.test_weights import Boom, body_equal
from tests.models.tiny import MODELS, build

from timm.models import save_for_hf  # isort: skip

ODD = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}  # of no tag


def as_written_by_timm(folder, model, safe=True):
    """The folder, and the state dict of the weights in it."""
    backbone = build(model, seed=7, num_classes=11).backbone
    backbone.pretrained_cfg = {**backbone.pretrained_cfg, **ODD, "license": "cc-by-nc-4.0"}
    save_for_hf(backbone, str(folder), safe_serialization=safe)
    return backbone.state_dict()


def change_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_a_folder_fills_the_model_and_says_its_normalisation(model, safe, tmp_path):
    state = as_written_by_timm(tmp_path / "hub", model, safe)
    classifier = build(model, weights=str(tmp_path / "hub"))
    assert body_equal(state, classifier.backbone.state_dict())
    assert torch.equal(classifier.mean.flatten(), torch.tensor(ODD["mean"]))
    assert torch.equal(classifier.std.flatten(), torch.tensor(ODD["std"]))


def test_the_older_form_of_config_is_read(tmp_path):
    as_written_by_timm(tmp_path, "vit")
    change_config(tmp_path, lambda config: config.update(config.pop("pretrained_cfg")))
    assert config_in(tmp_path, "vit_tiny_patch16_224").mean == (0.1, 0.2, 0.3)


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    as_written_by_timm(tmp_path / "hub", "vit")
    assert weights_file("vit_tiny_patch16_224", "~/hub") == tmp_path / "hub" / "model.safetensors"
    assert pretrained_cfg("vit_tiny_patch16_224", "~/hub").license == "cc-by-nc-4.0"


def test_another_architecture_is_refused_by_name(tmp_path):
    as_written_by_timm(tmp_path / "hub", "vit")
    message = r"hub: of vit_tiny_patch16_224, not deit_tiny_distilled_patch16_224; set arch to vit_tiny_patch16_224"
    with pytest.raises(StudyError, match=message):
        build("deit", weights=str(tmp_path / "hub"))


def test_the_safetensors_are_taken_where_there_are_both(tmp_path):
    as_written_by_timm(tmp_path, "vit", safe="both")
    assert weights_in(tmp_path).name == "model.safetensors"


def test_a_folder_without_weights_is_refused(tmp_path):
    as_written_by_timm(tmp_path / "hub", "vit")
    (tmp_path / "hub" / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"hub: a folder without model\.safetensors and pytorch_model\.bin"):
        build("vit", weights=str(tmp_path / "hub"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config["pretrained_cfg"].pop("mean"), r"pretrained_cfg\.mean: Field required"),
        (lambda config: config["pretrained_cfg"].update(std=[0.5]), r"pretrained_cfg\.std"),
        (lambda config: config["pretrained_cfg"].update(std=[0, 1, 1]), r"pretrained_cfg\.std\.0: .* greater than 0"),
        (lambda config: config.pop("architecture"), r"architecture: Field required"),  # as transformers writes it
    ],
)
def test_a_config_that_lacks_something_is_refused(change, message, tmp_path):
    as_written_by_timm(tmp_path, "vit")
    change_config(tmp_path, change)
    with pytest.raises(StudyError, match=rf"config\.json: not as timm writes it \(.*{message}"):
        build("vit", weights=str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00"])
def test_a_config_that_is_none_is_refused(text, tmp_path):
    as_written_by_timm(tmp_path, "vit")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(StudyError, match=r"config\.json: not as timm writes it"):
        build("vit", weights=str(tmp_path))


def test_a_folder_without_config_says_what_to_do(tmp_path):
    as_written_by_timm(tmp_path, "vit")
    (tmp_path / "config.json").unlink()
    with pytest.raises(StudyError, match=r"config\.json: absent, .*normalisation; give the file of weights itself"):
        build("vit", weights=str(tmp_path))


def test_a_pickle_in_a_folder_is_not_run(tmp_path, capsys):
    as_written_by_timm(tmp_path, "vit", safe=False)
    torch.save({"pos_embed": Boom()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(StudyError, match=r"pytorch_model\.bin: damaged, or no plain weights"):
        build("vit", weights=str(tmp_path))
    assert "a pickle was run" not in capsys.readouterr().out


def test_a_clone_whose_large_files_were_not_fetched_says_so(tmp_path):
    as_written_by_timm(tmp_path, "vit")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 346284714\n"
    (tmp_path / "model.safetensors").write_text(pointer)
    with pytest.raises(StudyError, match=r"model\.safetensors: .*`git lfs pull`"):
        build("vit", weights=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: mit\n---\n# Model", "mit"),
        ("---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("---\ntags: [timm]\n---\n", None),
        ("# No header", None),
        ("---\n: : [\n---\n", None),
        ("---\n- a list\n---\n", None),
    ],
)
def test_the_licence_in_the_header_of_a_readme(text, licence, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert licence_in_readme(tmp_path) == licence


def test_no_readme_states_no_licence(tmp_path):
    assert licence_in_readme(tmp_path) is None


def test_a_snapshot_in_the_hubs_cache_knows_its_page(tmp_path):
    snapshot = Path(tmp_path / "models--timm--vit_tiny_patch16_224.augreg" / "snapshots" / "0123abcd")
    as_written_by_timm(snapshot, "vit")
    cfg = config_in(snapshot, "vit_tiny_patch16_224")
    assert cfg.origin_url == "https://huggingface.co/timm/vit_tiny_patch16_224.augreg"
