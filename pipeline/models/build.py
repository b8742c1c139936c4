"""A timm transformer with a new head for our classes and its normalisation as the first layer."""

from difflib import get_close_matches
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import StudyError
from pipeline.models.weights import FROM_SCRATCH, RGB, load_weights, normalisation

ArchOptions = dict[str, int | float | str | bool | tuple[int, ...]]

# Arguments of timm.create_model that are ours to give: a weights source among the options would go round `weights`.
OWN_ARGUMENTS = {
    "img_size",
    "in_chans",
    "num_classes",
    "features_only",
    "pretrained",
    "checkpoint_path",
    "cache_dir",
} | {
    "pretrained_cfg",
    "pretrained_cfg_overlay",
}


class Classifier(nn.Module):
    """Class logits of images in [0, 1].

    The normalisation lives inside, so images, substrates and overlays are the same pictures for every model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, mean: RGB, std: RGB) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        return self.backbone(self.normalise(images))

    def normalise(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        return (images - self.mean) / self.std


def build_classifier(
    arch: str, arch_options: ArchOptions, weights: str, num_classes: int, image_size_px: int, seed: int
) -> Classifier:
    """The model in train mode on the CPU; whatever `weights` does not fill is drawn from `seed`.

    Args:
        arch: a timm architecture. With a tag (`vit_base_patch16_224.dino`) it takes that tag's normalisation, which a
            file of those weights needs; the tag of hub `weights` says it by itself.
        weights: none, a path or a hub tag, see `pipeline.models.weights`.

    Raises:
        StudyError: the message opens with the key at fault: `arch`, `arch_options` or `weights`.
    """
    _check_arch(arch)
    mean, std = normalisation(arch, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = _build_backbone(arch, arch_options, num_classes, image_size_px)
        if weights == FROM_SCRATCH:
            spread_start(backbone)
    load_weights(backbone, arch, weights)
    return Classifier(backbone, mean, std)


def as_classifier(model: nn.Module) -> Classifier:
    """A timm model as one that takes images in [0, 1], with the normalisation that its `pretrained_cfg` names.

    A Classifier comes back as it is; either way no weight is copied.

    Raises:
        StudyError: the model says no normalisation, so it is not timm's.
    """
    if isinstance(model, Classifier):
        return model
    cfg: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    if not {"mean", "std"} <= cfg.keys():
        raise StudyError(
            f"model: {type(model).__name__} has no pretrained_cfg with mean and std; "
            "wrap it as pipeline.models.build.Classifier(model, mean, std)"
        )
    return Classifier(model, cfg["mean"], cfg["std"])


def spread_start(backbone: nn.Module) -> None:
    """Draws the linear and patch-embedding weights anew with the spread 1 / sqrt(inputs), the head's excepted.

    timm draws them with 0.02, which suits widths near a thousand. In a narrow network signals then fade from layer to
    layer, and it learns next to nothing for the first epochs.
    """
    cfg: Any = backbone.pretrained_cfg
    heads: str | tuple[str, ...] = cfg["classifier"]
    kept = (heads,) if isinstance(heads, str) else heads
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and name not in kept:
            nn.init.trunc_normal_(module.weight, std=module.weight[0].numel() ** -0.5)


def _check_arch(arch: str) -> None:
    name = arch.split(".")[0]
    if not timm.is_model(name):
        close = get_close_matches(name, timm.list_models(), n=5)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"
        raise StudyError(f"arch: timm has no {name}; {hint}")


def _build_backbone(arch: str, options: ArchOptions, num_classes: int, image_size_px: int) -> nn.Module:
    if reserved := sorted(OWN_ARGUMENTS & set(options)):
        raise StudyError(f"arch_options: {', '.join(reserved)} cannot be set here; the study sets it")
    arguments: dict[str, Any] = {"num_classes": num_classes, "img_size": image_size_px, **options}
    try:
        backbone = timm.create_model(arch, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split()) or "timm refuses these values"
        raise StudyError(f"arch_options: {arch} cannot be built with {options}: {reason}") from None
    _check_grid(backbone, arch, image_size_px)
    return backbone


def _check_grid(backbone: nn.Module, arch: str, image_size_px: int) -> None:
    """Patches that do not fill the image would shift every heatmap."""
    patch_embed = getattr(backbone, "patch_embed", None)
    if patch_embed is None:
        raise StudyError(f"arch: {arch} is no transformer over patches; choose a ViT, DeiT, DINO or Swin")
    if remainder := [size for size in patch_embed.patch_size if image_size_px % size]:
        raise StudyError(
            f"arch_options: patches of {remainder[0]} px do not fill images of {image_size_px} px; "
            "change patch_size or preprocess.image_size_px"
        )
