"""What an explanation must know of a transformer, read from the model itself: tokens, grids, layers, windows.

One description fits all families. A ViT is one window over all of its tokens, prefix included; a Swin has many
windows on a grid that halves from stage to stage. Whatever is not known to fit is refused by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from timm.layers import Attention, AttentionRope, to_2tuple
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from pipeline.errors import StudyError

Grid = tuple[int, int]  # rows, columns

AUTO = "auto"  # the Grad-CAM layer that follows from the pooling


@dataclass(frozen=True)
class Windows:
    """Which tokens one attention layer lets meet: the grid, rolled by -shift, cut into windows of `size`."""

    grid: Grid
    size: Grid
    shift: Grid


@dataclass(frozen=True)
class Family:
    """The facts of one backbone; layers are named as in `backbone.get_submodule`."""

    title: str
    image_px: Grid
    patch_grid: Grid  # of the patches that enter the first layer
    num_prefix_tokens: int  # class, distillation and register tokens, ahead of the patches
    read_tokens: tuple[int, int]  # first and past-last token of the last layer that the head reads, with equal weights
    cam_layer: str
    cam_grid: Grid
    attention: tuple[str, ...]  # attention modules, first layer first
    windows: tuple[Windows, ...]  # one for each attention module
    stage_grids: dict[str, Grid] = field(default_factory=dict)  # of a Swin: its stages and the norm behind them

    def to_cam_grid(self, tokens: Float[Tensor, "n ... c"]) -> Float[Tensor, "n h w c"]:
        """Output of the Grad-CAM layer, [n, tokens, c] or [n, h, w, c], as a grid without prefix tokens."""
        flat = tokens.flatten(1, -2)
        return flat[:, flat.shape[1] - self.cam_grid[0] * self.cam_grid[1] :].unflatten(1, self.cam_grid)

    def lies_on_cam_grid(self, shape: tuple[int, ...], num_images: int) -> bool:
        """Whether an output of this shape is one vector for each patch of each image, prefix tokens ahead or not."""
        tokens = shape[1] * (shape[2] if len(shape) == 4 else 1) if len(shape) in (3, 4) else 0
        patches = self.cam_grid[0] * self.cam_grid[1]
        return shape[0] == num_images and tokens in (patches, patches + self.num_prefix_tokens)


def family_of(backbone: nn.Module, cam_layer: str = AUTO) -> Family:
    """The facts of a timm model.

    Args:
        cam_layer: auto, norm1, norm2 or block for those of the last block, or any name of `backbone.get_submodule`.

    Raises:
        StudyError: its class, a variant it was built with, or the layer is not known; it is named.
    """
    describe = FAMILIES.get(type(backbone))  # exact classes: a subclass may read its tokens differently
    if describe is None:
        known = ", ".join(sorted(family.__name__ for family in FAMILIES))
        raise _refusal(backbone, f"its class {type(backbone).__name__} cannot be explained; known classes are {known}")
    _check_patches(backbone)
    family = describe(backbone)
    return family if cam_layer == AUTO else _with_cam_layer(backbone, family, cam_layer)


def _check_patches(backbone: nn.Module) -> None:
    """With dynamic_img_size the grid is that of the image size the model was built for, and no other is explained."""
    patches: Any = backbone.patch_embed
    image, patch = patches.img_size, patches.patch_size
    if image is None:
        raise _refusal(backbone, "its grid is unknown; build it with img_size")
    if image[0] % patch[0] or image[1] % patch[1]:
        text = f"patches of {patch[0]}x{patch[1]} px do not fill images of {image[0]}x{image[1]} px"
        raise _refusal(backbone, f"{text}, which would shift every heatmap; choose another img_size")


def _with_cam_layer(backbone: nn.Module, family: Family, cam_layer: str) -> Family:
    last = family.attention[-1].removesuffix(".attn")
    name = {"norm1": f"{last}.norm1", "norm2": f"{last}.norm2", "block": last}.get(cam_layer, cam_layer)
    known = [module for module, _ in backbone.named_modules() if module]
    windowed = bool(family.stage_grids) and name.startswith(family.attention)
    if name not in known or windowed:  # inside an attention of windows, tokens lie in the windows' order
        raise StudyError(
            f"explain.cam_layer: this {family.title} has no layer {cam_layer} with a vector for each patch; "
            f"choose auto, norm1, norm2, block or a name such as {family.attention[0].removesuffix('.attn')}.norm1"
        )
    grids = [grid for part, grid in family.stage_grids.items() if f"{name}.".startswith(f"{part}.")]
    return replace(family, cam_layer=name, cam_grid=grids[0] if grids else family.patch_grid)


def _vit(backbone: VisionTransformer) -> Family:
    _check_vit(backbone, Block, (Attention,))
    return _one_window(backbone, "ViT", include_prefix=backbone.pool_include_prefix)


def _eva(backbone: Eva) -> Family:
    """EVA and DINOv3: a ViT whose attention turns queries and keys by their position."""
    _check_vit(backbone, EvaBlock, (EvaAttention, AttentionRope))
    return _one_window(backbone, "ViT with rotary positions", include_prefix=False)


def _one_window(backbone: VisionTransformer | Eva, title: str, include_prefix: bool) -> Family:
    prefix = backbone.num_prefix_tokens
    num_tokens = prefix + backbone.patch_embed.num_patches
    depth = len(backbone.blocks)
    averaged = backbone.global_pool == "avg"
    # An average taken behind the last norm is best read there too: what enters a norm has no slope along itself.
    averaged_layer = f"blocks.{depth - 1}" if isinstance(backbone.norm, nn.Identity) else "norm"
    return Family(
        title=title,
        image_px=to_2tuple(backbone.patch_embed.img_size),
        patch_grid=backbone.patch_embed.grid_size,
        num_prefix_tokens=prefix,
        read_tokens=(0 if include_prefix else prefix, num_tokens) if averaged else (0, 1),
        # A class token reads the patches only through the last attention, so after it no patch has a gradient.
        cam_layer=averaged_layer if averaged else f"blocks.{depth - 1}.norm1",
        cam_grid=backbone.patch_embed.grid_size,
        attention=tuple(f"blocks.{index}.attn" for index in range(depth)),
        windows=(Windows(grid=(1, num_tokens), size=(1, num_tokens), shift=(0, 0)),) * depth,
    )


def _check_vit(backbone: VisionTransformer | Eva, block_class: type, attention_classes: tuple[type, ...]) -> None:
    if backbone.global_pool not in ("token", "avg"):
        raise _refusal(backbone, f"global_pool {backbone.global_pool!r} cannot be explained; choose token or avg")
    for block in backbone.blocks:
        if type(block) is not block_class or type(block.attn) not in attention_classes:
            parts = f"{type(block).__name__} with {type(getattr(block, 'attn', block)).__name__}"
            known = " or ".join(attention.__name__ for attention in attention_classes)
            raise _refusal(backbone, f"its blocks are {parts}, known is {block_class.__name__} with {known}")


def _distilled_vit(backbone: VisionTransformerDistilled) -> Family:
    """The two heads, on the class and on the distillation token, are averaged into the logits."""
    return replace(_vit(backbone), title="distilled ViT", read_tokens=(0, 2))


def _swin(backbone: SwinTransformer | SwinTransformerV2) -> Family:
    if backbone.global_pool != "avg":
        raise _refusal(backbone, f"global_pool {backbone.global_pool!r} cannot be explained; choose avg")
    modules = backbone.named_modules()
    blocks = {name: module for name, module in modules if isinstance(module, SWIN_BLOCKS)}
    windows = tuple(_swin_windows(block) for block in blocks.values())
    grids = {".".join(name.split(".")[:2]): place.grid for name, place in zip(blocks, windows, strict=True)}
    rows, columns = windows[-1].grid
    return Family(
        title="Swin v2" if isinstance(backbone, SwinTransformerV2) else "Swin",
        image_px=to_2tuple(backbone.patch_embed.img_size),
        patch_grid=windows[0].grid,
        num_prefix_tokens=0,
        read_tokens=(0, rows * columns),
        cam_layer="norm",  # the head averages its output, so here Grad-CAM is the classic, parameter-free CAM
        cam_grid=windows[-1].grid,
        attention=tuple(f"{name}.attn" for name in blocks),
        windows=windows,
        stage_grids={**grids, "norm": windows[-1].grid},
    )


def _swin_windows(block: SwinTransformerBlock | SwinTransformerV2Block) -> Windows:
    return Windows(to_2tuple(block.input_resolution), to_2tuple(block.window_size), to_2tuple(block.shift_size))


def _refusal(backbone: nn.Module, reason: str) -> StudyError:
    architecture = getattr(backbone, "pretrained_cfg", {}).get("architecture") or type(backbone).__name__
    return StudyError(f"arch: {architecture}: {reason}")


SWIN_BLOCKS = (SwinTransformerBlock, SwinTransformerV2Block)

FAMILIES: dict[type[nn.Module], Callable[..., Family]] = {
    VisionTransformer: _vit,
    VisionTransformerDistilled: _distilled_vit,
    Eva: _eva,
    SwinTransformer: _swin,
    SwinTransformerV2: _swin,
}
