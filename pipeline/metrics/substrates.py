"""Substrates: what replaces an image's pixels when a heatmap is scored.

Most are pictures: they map images in [0, 1] to images in [0, 1], before any model's normalisation, so each is the same
picture for every model. RISE (Petsiuk et al. 2018, evaluation.py) works on normalised values; two of its choices need
a reading:

- Its "zeros" are zeros of the model's input. Our models take pixels, so `zero` is black. For a network that is fed
  normalised values the same zeros show as that network's mean colour, which differs from model to model (0.5 grey for
  ViT-augreg, ImageNet's mean for the others); `mean` is that picture with ImageNet's mean for everyone.
- It blurs with zero padding, which pulls the borders towards the mean colour. On pixels it would draw a dark frame
  around every image, so `blur` reflects the image at its borders.

`blur` removes little of an image; `blur_20` and `blur_40` remove most of it. An imputer is no picture: what it puts in
a pixel's place depends on which other pixels are gone, see `pipeline.metrics.imputation`.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from scipy.ndimage import gaussian_filter
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.metrics.imputation import Imputer, noisy_linear

KERNEL_PX = 11  # RISE's, at 224 px; kept at every image size: a share of the width would be another blur per study
KERNEL_SIGMA_PX = 5.0
PAPER_SIDE_PX = 224
TAIL_SIGMAS = 3  # where a Gaussian is cut off
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


def strong_blur(images: Images, sigma_px: float) -> Images:
    """The images under a Gaussian, reflected at their borders.

    Args:
        sigma_px: at 224 px. It grows with the shorter side: the aim is to erase an equal share of every picture, where
            RISE's kernel is kept as published.
    """
    sigma = sigma_px * min(images.shape[-2:]) / PAPER_SIDE_PX
    radius = max(1, round(TAIL_SIGMAS * sigma))
    weights = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2).to(images)
    across = (weights / weights.sum()).expand(3, 1, 1, -1)
    padded = F.pad(images, [radius] * 4, mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, across, groups=3), across.transpose(2, 3), groups=3)
    return blurred.clamp(0, 1)


ANOTHER_IMAGE = "another_image"
SUBSTRATES: dict[str, Substrate] = {
    "zero": zero,
    "mean": mean,
    "blur": blur,
    "blur_20": lambda images: strong_blur(images, 20.0),
    "blur_40": lambda images: strong_blur(images, 40.0),
}
IMPUTERS: dict[str, Imputer] = {"noisy_linear": noisy_linear}
NAMES = (*SUBSTRATES, ANOTHER_IMAGE, *IMPUTERS)


def pictures(name: str, images: Images, partners: Images | None = None) -> Images:
    """What is left of the images when every pixel is gone, for a substrate of any kind.

    Args:
        partners: for `another_image` the other image of each, see `partner_positions`.

    Raises:
        StudyError: no substrate has that name.
        ValueError: `another_image` has no partners.
    """
    if name == ANOTHER_IMAGE:
        if partners is None:
            raise ValueError("partners: another_image needs the other image of each")
        return partners
    if name in IMPUTERS:
        all_gone = torch.ones(1, *images.shape[2:], dtype=torch.bool, device=images.device)
        return torch.cat([IMPUTERS[name](image, all_gone) for image in images])
    if name not in SUBSTRATES:
        raise StudyError(f"substrates: unknown substrate {name!r}; choose from {', '.join(NAMES)}")
    return SUBSTRATES[name](images)


def partner_positions(
    classes: Int64[np.ndarray, " n"], positions: Int64[np.ndarray, " k"], targets: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " k"]:
    """For some images of a whole set, given in its order, the positions of those that replace them.

    It is the first after it, past the end from the start again, whose class is not its target; where none is, the next.

    Args:
        classes: of the whole set.
        positions: of the images to be replaced, each with its target.

    Raises:
        ValueError: there is no other image.
    """
    if len(classes) < 2:
        raise ValueError("another_image: one image alone has no partner")
    order = [np.roll(np.arange(len(classes)), -position - 1)[:-1] for position in positions]
    differ = [classes[others] != target for others, target in zip(order, targets, strict=True)]
    return np.array([others[found.argmax()] for others, found in zip(order, differ, strict=True)], dtype=np.int64)
