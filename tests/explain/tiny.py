"""Tiny models of every family with random weights large enough that gradients matter, and images for them."""

import torch
from torch import Tensor

from pipeline.explain.capture import Captured, capture
from pipeline.models.build import Classifier  # first: it lets timm be imported on CPU-only machines

import timm  # isort: skip

VIT = {"patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "img_size": 32}
SWIN = {"patch_size": 4, "window_size": 4, "embed_dim": 12, "depths": (2, 2), "num_heads": (2, 3), "img_size": 64}

ARCHITECTURES = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "wide_vit": ("vit_tiny_patch16_224", {**VIT, "img_size": (32, 48)}),
    "averaged_vit": ("vit_tiny_patch16_224", {**VIT, "global_pool": "avg"}),
    "registers": ("vit_tiny_patch16_224", {**VIT, "reg_tokens": 4}),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
    "wide_swin": ("swin_tiny_patch4_window7_224", {**SWIN, "img_size": (64, 96)}),
}
FAMILIES = tuple(ARCHITECTURES)
TARGETS = torch.tensor([0, 3, 1])  # of the three images


def build(key: str, num_classes: int = 5) -> Classifier:
    arch, options = ARCHITECTURES[key]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = timm.create_model(arch, num_classes=num_classes, **options)
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.25)
    return Classifier(backbone, (0.5, 0.4, 0.3), (0.25, 0.25, 0.25)).eval()


def draw_images(classifier: Classifier, count: int = 3) -> Tensor:
    height, width = classifier.backbone.patch_embed.img_size
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def captured_of(key: str) -> Captured:
    classifier = build(key)
    return capture(classifier, draw_images(classifier), TARGETS)
