"""Family facts against the models themselves: what the head reads, where gradients are, what is refused."""

import pytest
import torch

from pipeline.errors import StudyError
from pipeline.models.family import Windows, family_of
from tests.explain.tiny import FAMILIES, build, draw_images

import timm  # isort: skip


@pytest.mark.parametrize("key", FAMILIES)
def test_the_head_reads_exactly_the_tokens_said(key):
    classifier = build(key)
    backbone = classifier.backbone
    tokens = backbone.forward_features(draw_images(classifier))
    gradient = torch.autograd.grad(backbone.forward_head(tokens)[:, 0].sum(), tokens)[0].flatten(1, -2)
    read = (gradient.abs().sum(dim=(0, 2)) > 0).nonzero().flatten()
    first, stop = family_of(backbone).read_tokens
    assert read.tolist() == list(range(first, stop))


@pytest.mark.parametrize("key", FAMILIES)
def test_grids_cover_the_image(key):
    backbone = build(key).backbone
    family = family_of(backbone)
    height, width = backbone.patch_embed.img_size
    patch = backbone.patch_embed.patch_size[0]
    assert family.patch_grid == (height // patch, width // patch)
    assert len(family.attention) == len(family.windows)


@pytest.mark.parametrize("key", FAMILIES)
def test_the_names_lead_to_the_modules(key):
    backbone = build(key).backbone
    family = family_of(backbone)
    backbone.get_submodule(family.cam_layer)
    modules = [module for name, module in backbone.named_modules() if name.endswith(".attn")]
    assert [backbone.get_submodule(name) for name in family.attention] == modules


def test_the_grad_cam_layer_follows_from_the_pooling():
    layers = {key: family_of(build(key).backbone).cam_layer for key in FAMILIES}
    averaged = {"averaged_vit": "blocks.2", "averaged_dinov3": "norm"}
    swins = dict.fromkeys(("swin", "wide_swin", "wide_swin_v2"), "norm")
    assert layers == dict.fromkeys(FAMILIES, "blocks.2.norm1") | averaged | swins


@pytest.mark.parametrize("key", FAMILIES)
def test_every_patch_has_a_gradient_at_the_grad_cam_layer(key):
    classifier, seen = build(key), []
    family = family_of(classifier.backbone)
    layer = classifier.backbone.get_submodule(family.cam_layer)
    handle = layer.register_forward_hook(lambda module, given, out: seen.append(out))
    logit = classifier(draw_images(classifier))[:, 0].sum()
    handle.remove()
    gradient = family.to_cam_grid(torch.autograd.grad(logit, seen)[0])
    assert (gradient.abs().amax(dim=-1) > 0).all()


@pytest.mark.parametrize(
    ("key", "asked", "layer", "grid"),
    [
        ("vit", "norm1", "blocks.2.norm1", (4, 4)),
        ("vit", "block", "blocks.2", (4, 4)),
        ("vit", "patch_embed", "patch_embed", (4, 4)),
        ("wide_swin", "norm2", "layers.1.blocks.1.norm2", (8, 12)),
        ("wide_swin", "layers.1.downsample", "layers.1.downsample", (8, 12)),
        ("wide_swin", "layers.0.blocks.1", "layers.0.blocks.1", (16, 24)),
        ("wide_swin", "patch_embed", "patch_embed", (16, 24)),
        ("wide_swin_v2", "block", "layers.1.blocks.1", (8, 12)),
    ],
)
def test_a_grad_cam_layer_can_be_named(key, asked, layer, grid):
    family = family_of(build(key).backbone, asked)
    assert (family.cam_layer, family.cam_grid) == (layer, grid)


@pytest.mark.parametrize(("key", "layer"), [("vit", "blocks.3"), ("swin", "layers.1.blocks.1.attn.proj")])
def test_a_layer_that_is_not_there_or_in_the_windows_order_is_refused(key, layer):
    with pytest.raises(StudyError, match=f"explain.cam_layer: .* no layer {layer} with a vector for each patch"):
        family_of(build(key).backbone, layer)


@pytest.mark.parametrize("key", ["wide_swin", "wide_swin_v2"])
@pytest.mark.parametrize("block", [0, 1])
def test_a_token_reaches_the_tokens_of_its_window_only(key, block):
    backbone = build(key).backbone
    place = family_of(backbone).windows[block]
    tokens = torch.rand(1, *place.grid, 12, requires_grad=True)
    out = backbone.get_submodule(f"layers.0.blocks.{block}")(tokens)
    reached = torch.autograd.grad(out[0, 9, 13, 0], tokens)[0][0].abs().sum(dim=-1) > 1e-12
    (down, across), (height, width) = place.shift, place.size
    rows, columns = reached.nonzero(as_tuple=True)
    assert {(row.item() - down) // height for row in rows} == {(9 - down) // height}
    assert {(column.item() - across) // width for column in columns} == {(13 - across) // width}
    assert len(rows) == height * width


def test_to_cam_grid_drops_the_prefix_and_keeps_reading_order():
    family = family_of(build("wide_vit").backbone)
    tokens = torch.arange(25.0).view(1, 25, 1)
    assert family.to_cam_grid(tokens)[0, :, :, 0].tolist() == torch.arange(1.0, 25.0).view(4, 6).tolist()


def test_to_cam_grid_takes_swin_tokens_in_both_layouts():
    family = family_of(build("wide_swin").backbone)
    grid = torch.rand(2, *family.cam_grid, 3)
    assert torch.equal(family.to_cam_grid(grid), grid)
    assert torch.equal(family.to_cam_grid(grid.flatten(1, 2)), grid)


def test_swin_windows_are_those_of_each_block():
    grids = [(16, 24), (16, 24), (8, 12), (8, 12)]
    shifts = [(0, 0), (2, 2), (0, 0), (2, 2)]
    expected = tuple(Windows(grid, (4, 4), shift) for grid, shift in zip(grids, shifts, strict=True))
    assert family_of(build("wide_swin").backbone).windows == expected


def test_a_last_stage_of_one_window_is_not_shifted():
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, depths=(1, 2), num_heads=(2, 2), embed_dim=12)
    assert family_of(swin).windows[-1] == Windows((7, 7), (7, 7), (0, 0))


@pytest.mark.parametrize(
    ("arch", "options", "reason"),
    [
        ("resnet10t", {}, "ResNet"),
        ("beit_base_patch16_224", {"depth": 1}, "Beit"),
        ("eva02_tiny_patch14_224", {"depth": 1, "use_post_norm": True}, "EvaBlockPostNorm"),
        ("eva02_tiny_patch14_224", {"depth": 1, "global_pool": "map"}, "global_pool 'map'"),
        ("vit_tiny_patch16_224", {"depth": 1, "global_pool": "map"}, "global_pool 'map'"),
        ("vit_tiny_patch16_224", {"depth": 1, "attn_layer": "diff"}, "DiffAttention"),
        ("vit_tiny_patch16_224", {"depth": 1, "img_size": 100}, "patches of 16x16 px do not fill images of 100x100"),
        (
            "swin_tiny_patch4_window7_224",
            {"depths": (1,), "num_heads": (1,), "global_pool": "max"},
            "global_pool 'max'",
        ),
    ],
)
def test_what_is_not_known_is_refused_by_name(arch, options, reason):
    with pytest.raises(StudyError, match=f"{arch}.*{reason}"):
        family_of(timm.create_model(arch, **options))


def test_the_refusal_of_an_unknown_class_lists_the_known():
    with pytest.raises(StudyError, match="Eva, SwinTransformer, SwinTransformerV2, VisionTransformer"):
        family_of(torch.nn.Linear(1, 1))
