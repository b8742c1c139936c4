"""Untrained models at 224 px whose scores move, images, and maps without ties."""

import torch
from torch import Tensor

from pipeline.models.build import Classifier, build_classifier

SIDE_PX = 224
LOGIT_SPREAD = 4.0  # of the classes of an image, so that probabilities lie between 0 and 1 as a trained model's do


def classifier_of(arch: str) -> Classifier:
    classifier = build_classifier(arch, {}, "none", 8, SIDE_PX, 0).eval()
    head = classifier.backbone.get_classifier()
    with torch.no_grad():
        head.weight.mul_(LOGIT_SPREAD / classifier(draw_images(4)).std())
    return classifier


def draw_images(count: int) -> Tensor:
    """Smooth coloured noise, more like a picture than white noise."""
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=(SIDE_PX, SIDE_PX), mode="bicubic").clamp(0, 1)


def draw_maps(count: int) -> Tensor:
    """Every pixel has a value of its own: peers order ties their own way."""
    generator = torch.Generator().manual_seed(1)
    orders = [torch.randperm(SIDE_PX * SIDE_PX, generator=generator) for _ in range(count)]
    return torch.stack(orders).view(count, SIDE_PX, SIDE_PX).float() / SIDE_PX**2
