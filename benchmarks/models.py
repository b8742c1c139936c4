"""Untrained models at 224 px whose scores move, images, and maps without ties."""

import torch
from torch import Tensor

from pipeline.models.build import Classifier, build_classifier

SIDE_PX = 224
LOGIT_SPREAD = 4.0  # of the classes of an image, so that probabilities lie between 0 and 1 as a trained model's do


def classifier_of(arch: str, options: dict | None = None, side_px: int = SIDE_PX) -> Classifier:
    classifier = build_classifier(arch, options or {}, "none", 8, side_px, 0).eval()
    head = classifier.backbone.get_classifier()
    with torch.no_grad():
        head.weight.mul_(LOGIT_SPREAD / classifier(draw_images(4, side_px)).std())
    return classifier


def draw_images(count: int, side_px: int = SIDE_PX) -> Tensor:
    """Smooth coloured noise, more like a picture than white noise."""
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(side_px, side_px), mode="bicubic").clamp(0, 1)


def draw_maps(count: int, side_px: int = SIDE_PX) -> Tensor:
    """Every pixel has a value of its own: peers order ties their own way."""
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(side_px * side_px, generator=generator) for _ in range(count)]
    return torch.stack(orders).view(count, side_px, side_px).float() / side_px**2
