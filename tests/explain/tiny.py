"""Tiny models of every family with random weights large enough that gradients matter, and images for them."""

import torch
from torch import Tensor

from pipeline.explain.capture import Captured, capture
from pipeline.explain.public import DEFAULTS
from pipeline.models.build import Classifier  # first: it lets timm be imported on CPU-only machines
from pipeline.params import MethodParams

import timm  # isort: skip

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 32}
DINO = {**VIT, "patch_size": 14, "num_heads": 2, "img_size": 56, "init_values": 1.0}  # LayerScale
SWIN = {"patch_size": 4, "window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "img_size": 64}

ARCHITECTURES = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "wide_vit": ("vit_tiny_patch16_224", {**VIT, "img_size": (32, 48)}),
    "averaged_vit": ("vit_tiny_patch16_224", {**VIT, "global_pool": "avg"}),
    "registers": ("vit_tiny_patch16_224", {**VIT, "reg_tokens": 4}),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "wide_swin": ("swin_tiny_patch4_window7_224", {**SWIN, "img_size": (64, 96)}),
    "wide_swin_v2": ("swinv2_tiny_window8_256", {**SWIN, "img_size": (64, 96)}),
    "dinov2": ("vit_giant_patch14_dinov2", {**DINO, "reg_tokens": 4}),  # with SwiGLU
    "dinov3": ("vit_small_patch16_dinov3", {**DINO, "global_pool": "token"}),
    "averaged_dinov3": ("vit_small_patch16_dinov3", {**DINO, "img_size": (56, 84)}),
}
FAMILIES = tuple(ARCHITECTURES)
PARAMS = MethodParams.model_validate({**DEFAULTS, "integrated_gradients_steps": 4, "rise_masks": 8})
TARGETS = torch.tensor([0, 3, 1])  # of the three images


def build(key: str, num_classes: int = 5) -> Classifier:
    arch, options = ARCHITECTURES[key]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(arch, num_classes=num_classes, **options)
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.25)
        for name, parameter in backbone.named_parameters():
            if name.endswith(("norm1.weight", "norm2.weight")):  # a new Swin v2 has zeros, so its blocks do nothing
                torch.nn.init.ones_(parameter)
    return Classifier(backbone, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25)).eval()


def draw_images(classifier: Classifier, count: int = 3) -> Tensor:
    height, width = classifier.backbone.patch_embed.img_size
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def params(**changes) -> MethodParams:
    return MethodParams.model_validate({**PARAMS.model_dump(), **changes})


def captured_of(key: str) -> Captured:
    classifier = build(key)
    return capture(classifier, draw_images(classifier), TARGETS)
