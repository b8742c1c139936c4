"""Substrates: the pictures whose pixels replace an image's pixels when a heatmap is scored.

A substrate maps images in [0, 1] to images in [0, 1], before any model's normalisation, so it is the same picture for
every model. RISE (Petsiuk et al. 2018, evaluation.py) works on normalised values; two of its choices need a reading:

- Its "zeros" are zeros of the model's input. Our models take pixels, so `zero` is black. For a network that is fed
  normalised values the same zeros show as that network's mean colour, which differs from model to model (0.5 grey for
  ViT-augreg, ImageNet's mean for the others); `mean` is that picture with ImageNet's mean for everyone.
- It blurs with zero padding, which pulls the borders towards the mean colour. On pixels it would draw a dark frame
  around every image, so `blur` reflects the image at its borders.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipeline.errors import StudyError

KERNEL_PX = 11  # RISE's, at 224 px; kept at every image size: a share of the width would be another blur per study
KERNEL_SIGMA_PX = 5.0
IMAGENET_MEAN = (0.485, 0.456, 0.406)

Images = Float[Tensor, "n 3 h w"]
Substrate = Callable[[Images], Images]


@cache
def rise_kernel() -> Float[Tensor, "11 11"]:
    """RISE's gkern(11, 5): a point smoothed by scipy inside 11 x 11 pixels, reflected at their border.

    The reflection folds the tails back, so it is nearly a box filter (centre .0088, corner .0077), not a Gaussian.
    """
    point = np.zeros((KERNEL_PX, KERNEL_PX))
    point[KERNEL_PX // 2, KERNEL_PX // 2] = 1
    return torch.from_numpy(gaussian_filter(point, KERNEL_SIGMA_PX).astype(np.float32))


def zero(images: Images) -> Images:
    """Black pictures."""
    return torch.zeros_like(images)


def mean(images: Images) -> Images:
    """Pictures of ImageNet's mean colour."""
    return images.new_tensor(IMAGENET_MEAN).view(1, 3, 1, 1).expand_as(images).clone()


def blur(images: Images) -> Images:
    """The images under RISE's kernel, each channel alone; sides must exceed 5 px."""
    margin = KERNEL_PX // 2
    kernel = rise_kernel().to(images).expand(3, 1, KERNEL_PX, KERNEL_PX)
    blurred = F.conv2d(F.pad(images, [margin] * 4, mode="reflect"), kernel, groups=3)
    return blurred.clamp(0, 1)  # the weights sum to one only up to rounding


SUBSTRATES: dict[str, Substrate] = {"zero": zero, "mean": mean, "blur": blur}


def get(name: str) -> Substrate:
    if name not in SUBSTRATES:
        raise StudyError(f"score: unknown substrate {name!r}; choose from {', '.join(SUBSTRATES)}")
    return SUBSTRATES[name]
