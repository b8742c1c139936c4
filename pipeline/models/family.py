"""What an explanation must know of a transformer, read from the model itself: tokens, grids, layers, windows.

One description fits all families. A ViT is one window over all of its tokens, prefix included; a Swin has many
windows on a grid that halves from stage to stage. Whatever is not known to fit is refused by name.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float
from timm.layers import Attention, to_2tuple
from timm.models.deit import VisionTransformerDistilled
from timm.models.swin_transformer import SwinTransformer, SwinTransformerBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from pipeline.errors import StudyError

Grid = tuple[int, int]  # rows, columns


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
    patch_grid: Grid  # of the patches that enter the first layer
    num_prefix_tokens: int  # class, distillation and register tokens, ahead of the patches
    read_tokens: tuple[int, int]  # first and past-last token of the last layer that the head reads, with equal weights
    cam_layer: str
    cam_grid: Grid
    attention: tuple[str, ...]  # attention modules, first layer first
    windows: tuple[Windows, ...]  # one for each attention module

    def to_cam_grid(self, tokens: Float[Tensor, "n ... c"]) -> Float[Tensor, "n h w c"]:
        """Output of the Grad-CAM layer, [n, tokens, c] or [n, h, w, c], as a grid without prefix tokens."""
        patches = tokens.flatten(1, -2)[:, self.num_prefix_tokens :]
        return patches.unflatten(1, self.cam_grid)


def family_of(backbone: nn.Module) -> Family:
    """The facts of a timm model.

    Raises:
        StudyError: its class, or a variant it was built with, is not known; both are named.
    """
    describe = FAMILIES.get(type(backbone))  # exact classes: a subclass may read its tokens differently
    if describe is None:
        known = ", ".join(sorted(family.__name__ for family in FAMILIES))
        raise _refusal(backbone, f"its class {type(backbone).__name__} cannot be explained; known classes are {known}")
    if getattr(backbone, "dynamic_img_size", False):
        raise _refusal(backbone, "with dynamic_img_size its grid is unknown; leave that option out")
    return describe(backbone)


def _vit(backbone: VisionTransformer) -> Family:
    _check_vit(backbone)
    prefix = backbone.num_prefix_tokens
    num_tokens = prefix + backbone.patch_embed.num_patches
    depth = len(backbone.blocks)
    averaged = backbone.global_pool == "avg"
    first_read = 0 if backbone.pool_include_prefix else prefix
    return Family(
        title="ViT",
        patch_grid=backbone.patch_embed.grid_size,
        num_prefix_tokens=prefix,
        read_tokens=(first_read, num_tokens) if averaged else (0, 1),
        # A class token reads the patches only through the last attention, so after it no patch has a gradient.
        cam_layer=f"blocks.{depth - 1}" if averaged else f"blocks.{depth - 1}.norm1",
        cam_grid=backbone.patch_embed.grid_size,
        attention=tuple(f"blocks.{index}.attn" for index in range(depth)),
        windows=(Windows(grid=(1, num_tokens), size=(1, num_tokens), shift=(0, 0)),) * depth,
    )


def _check_vit(backbone: VisionTransformer) -> None:
    if backbone.global_pool not in ("token", "avg"):
        raise _refusal(backbone, f"global_pool {backbone.global_pool!r} cannot be explained; choose token or avg")
    for block in backbone.blocks:
        if type(block) is not Block or type(block.attn) is not Attention:
            parts = f"{type(block).__name__} with {type(getattr(block, 'attn', block)).__name__}"
            raise _refusal(backbone, f"its blocks are {parts}, known is Block with Attention")


def _distilled_vit(backbone: VisionTransformerDistilled) -> Family:
    """The two heads, on the class and on the distillation token, are averaged into the logits."""
    return replace(_vit(backbone), title="distilled ViT", read_tokens=(0, 2))


def _swin(backbone: SwinTransformer) -> Family:
    if backbone.global_pool != "avg":
        raise _refusal(backbone, f"global_pool {backbone.global_pool!r} cannot be explained; choose avg")
    blocks = {name: module for name, module in backbone.named_modules() if isinstance(module, SwinTransformerBlock)}
    windows = tuple(_swin_windows(block) for block in blocks.values())
    rows, columns = windows[-1].grid
    return Family(
        title="Swin",
        patch_grid=windows[0].grid,
        num_prefix_tokens=0,
        read_tokens=(0, rows * columns),
        cam_layer="norm",  # the head averages its output, so here Grad-CAM is the classic, parameter-free CAM
        cam_grid=windows[-1].grid,
        attention=tuple(f"{name}.attn" for name in blocks),
        windows=windows,
    )


def _swin_windows(block: SwinTransformerBlock) -> Windows:
    return Windows(to_2tuple(block.input_resolution), to_2tuple(block.window_size), to_2tuple(block.shift_size))


def _refusal(backbone: nn.Module, reason: str) -> StudyError:
    architecture = getattr(backbone, "pretrained_cfg", {}).get("architecture") or type(backbone).__name__
    return StudyError(f"arch: {architecture}: {reason}")


FAMILIES: dict[type[nn.Module], Callable[..., Family]] = {
    VisionTransformer: _vit,
    VisionTransformerDistilled: _distilled_vit,
    SwinTransformer: _swin,
}
