"""Pre-trained weights from files: what fits is loaded, the head is new, what does not fit is named."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import StudyError
from pipeline.models.weights import HEAD, is_path, load_weights, pretrained_cfg
from tests.models.tiny import MODELS, build


def save_backbone(model, path, **options):
    """A backbone with another head, as from another task; its state dict is returned."""
    state = build(model, seed=7, num_classes=11, **options).backbone.state_dict()
    (save_file if path.suffix == ".safetensors" else torch.save)(state, path)
    return state


def body_equal(state, other):
    names = [name for name in state if name.split(".")[0] not in HEAD]
    return all(torch.equal(state[name], other[name]) for name in names)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
@pytest.mark.parametrize("model", MODELS)
def test_a_file_fills_all_but_the_head(model, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    state = save_backbone(model, path)
    loaded, scratch = build(model, weights=str(path)), build(model)
    assert body_equal(state, loaded.backbone.state_dict())
    head = [name for name in state if name.startswith("head") and name.endswith("weight")]
    assert head
    assert all(torch.equal(loaded.backbone.state_dict()[name], scratch.backbone.state_dict()[name]) for name in head)


@pytest.mark.parametrize("model", MODELS)
def test_a_file_of_another_image_size_is_resampled(model, tmp_path):
    state = save_backbone(model, tmp_path / "weights.safetensors", side_px=64)
    loaded = build(model, weights=str(tmp_path / "weights.safetensors")).backbone.state_dict()
    name = next(name for name in state if name.endswith("mlp.fc1.weight"))
    assert torch.equal(loaded[name], state[name])


def test_a_headless_file_and_one_wrapped_in_model_are_taken(tmp_path):
    state = build("dino", seed=7).backbone.state_dict()
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("head")}
    torch.save({"model": headless}, tmp_path / "dino.pth")
    assert body_equal(headless, build("dino", weights=str(tmp_path / "dino.pth")).backbone.state_dict())


def jax_names(state, depth=2, heads=3):
    """The tensors of a timm ViT under the names and axes of the original JAX release."""
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    width = arrays["cls_token"].shape[-1]
    out = {
        "embedding/kernel": arrays["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": arrays["patch_embed.proj.bias"],
        "cls": arrays["cls_token"],
        "Transformer/posembed_input/pos_embedding": arrays["pos_embed"],
        "Transformer/encoder_norm/scale": arrays["norm.weight"],
        "Transformer/encoder_norm/bias": arrays["norm.bias"],
    }
    for block in range(depth):
        jax, ours = f"Transformer/encoderblock_{block}/", f"blocks.{block}."
        attention = f"{jax}MultiHeadDotProductAttention_1/"
        for name, kernel, bias in zip(
            ("query", "key", "value"),
            np.split(arrays[f"{ours}attn.qkv.weight"], 3),
            np.split(arrays[f"{ours}attn.qkv.bias"], 3),
            strict=True,
        ):
            out[f"{attention}{name}/kernel"] = kernel.T.reshape(width, heads, -1)
            out[f"{attention}{name}/bias"] = bias.reshape(heads, -1)
        out[f"{attention}out/kernel"] = arrays[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        out[f"{attention}out/bias"] = arrays[f"{ours}attn.proj.bias"]
        for jax_norm, our_norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            out[f"{jax}{jax_norm}/scale"] = arrays[f"{ours}{our_norm}.weight"]
            out[f"{jax}{jax_norm}/bias"] = arrays[f"{ours}{our_norm}.bias"]
        for layer in range(2):
            out[f"{jax}MlpBlock_3/Dense_{layer}/kernel"] = arrays[f"{ours}mlp.fc{layer + 1}.weight"].T
            out[f"{jax}MlpBlock_3/Dense_{layer}/bias"] = arrays[f"{ours}mlp.fc{layer + 1}.bias"]
    return out


def test_the_original_npz_release_is_taken(tmp_path):
    state = build("vit", seed=7).backbone.state_dict()
    np.savez(tmp_path / "vit.npz", **jax_names(state))
    assert body_equal(state, build("vit", weights=str(tmp_path / "vit.npz")).backbone.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blocks.1.norm1.bias"), r"blocks\.1\.norm1\.bias is missing"),
        (lambda state: state.update({"norm.bias": torch.ones(7)}), r"norm\.bias is \(7,\), not \(24,\)"),
        (lambda state: state.update({"blocks.2.norm1.bias": torch.ones(24)}), r"has no blocks\.2\.norm1\.bias"),
        (lambda state: state["norm.bias"].fill_(torch.inf), r"norm\.bias is not finite"),
    ],
)
def test_the_tensor_that_does_not_fit_is_named(change, message, tmp_path):
    state = build("vit").backbone.state_dict()
    change(state)
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(StudyError, match=rf"weights\.pth.*{message}"):
        build("vit", weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ".npz"])
@pytest.mark.parametrize("length", [0, 1000])
def test_a_cut_file_is_refused(suffix, length, tmp_path):
    path = tmp_path / f"weights{suffix}"
    save_backbone("vit", path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StudyError, match=rf"weights\{suffix}: damaged"):
        build("vit", weights=str(path))


class Boom:
    def __reduce__(self):
        return print, ("a pickle was run",)


def test_a_pickle_is_not_run(tmp_path, capsys):
    torch.save({"pos_embed": Boom()}, tmp_path / "weights.pth")
    with pytest.raises(StudyError, match="damaged, or no plain weights"):
        build("vit", weights=str(tmp_path / "weights.pth"))
    assert "a pickle was run" not in capsys.readouterr().out


def test_an_absent_file_is_named():
    with pytest.raises(StudyError, match=r"weights: nowhere/vit\.pth: no such file"):
        build("vit", weights="nowhere/vit.pth")


def test_an_unknown_tag_lists_the_known():
    with pytest.raises(StudyError, match="has no tag augreg; it has augreg_in21k, augreg_in21k_ft_in1k"):
        build("vit", weights="augreg")


def test_a_tag_of_an_unknown_architecture_is_the_fault_of_arch():
    with pytest.raises(StudyError, match=r"^arch: timm knows no weights of vit_of_tomorrow"):
        pretrained_cfg("vit_of_tomorrow", "dino")


def test_a_tag_without_a_file_is_refused():
    backbone = build("vit").backbone
    with pytest.raises(StudyError, match="timm publishes no file of vit_base_patch16_gap_224 under the tag untrained"):
        load_weights(backbone, "vit_base_patch16_gap_224", "untrained")


def test_a_tag_among_weights_brings_its_normalisation():
    assert pretrained_cfg("vit_base_patch16_224", "dino").mean == (0.485, 0.456, 0.406)
    assert pretrained_cfg("vit_base_patch16_224", "augreg2_in21k_ft_in1k").mean == (0.5, 0.5, 0.5)


def test_none_changes_nothing():
    backbone, untouched = build("vit").backbone, build("vit").backbone
    load_weights(backbone, "vit_tiny_patch16_224", "none")
    assert body_equal(untouched.state_dict(), backbone.state_dict())


@pytest.mark.parametrize(
    ("weights", "path"),
    [("none", False), ("augreg_in21k", False), ("a/b", True), ("vit.npz", True), ("openai_ft.in1k", False)],
)
def test_a_path_has_a_separator_or_a_known_suffix(weights, path):
    assert is_path(weights) == path
