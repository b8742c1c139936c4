"""The four models at 32 px with two blocks each: architecture and options as params.yaml would give them."""

import torch
from torch import Tensor

from pipeline.models.build import Classifier, build_classifier

SIDE_PX = 32
VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
SWIN = {"patch_size": 4, "window_size": 4, "embed_dim": 12, "depths": (1, 1), "num_heads": (2, 3)}
ARCHITECTURES = {
    "vit": ("vit_tiny_patch16_224", VIT),
    "deit": ("deit_tiny_distilled_patch16_224", VIT),
    "dino": ("vit_small_patch16_224.dino", VIT),
    "swin": ("swin_tiny_patch4_window7_224", SWIN),
}
MODELS = tuple(ARCHITECTURES)


def build(model: str, weights: str = "none", seed: int = 0, num_classes: int = 3, side_px: int = SIDE_PX) -> Classifier:
    return build_classifier(*ARCHITECTURES[model], weights, num_classes, side_px, seed)


def draw_images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE_PX, SIDE_PX, generator=torch.Generator().manual_seed(1))
