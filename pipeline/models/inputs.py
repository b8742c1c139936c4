"""What a caller hands to a model, checked before anything runs: images in [0, 1] of its size, classes it has."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pipeline.errors import StudyError


def image_size(backbone: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of the images that a timm model was built for; None where it takes any."""
    if getattr(backbone, "dynamic_img_size", False):
        return None
    size = getattr(getattr(backbone, "patch_embed", None), "img_size", None)
    return None if size is None else (size[0], size[1])


def check_images(images: Tensor, size: tuple[int, int] | None) -> None:
    """
    Raises:
        StudyError: they are no batch of finite RGB floats in [0, 1] of that size.
    """
    wanted = (3, *(size or images.shape[2:]))
    if images.ndim != 4 or tuple(images.shape[1:]) != wanted or len(images) == 0:
        raise StudyError(
            f"images: this model takes [n, {', '.join(map(str, wanted))}], these are {list(images.shape)}; resize "
            "them, or build the model with their img_size"
        )
    if not images.is_floating_point():
        raise StudyError(f"images: {images.dtype} where floats in [0, 1] are wanted; divide by 255")
    if (bad := first_not_finite(images)) is not None:
        raise StudyError(f"images: image {bad} holds a number that is not finite; repair or leave it out")
    low, high = (bound.item() for bound in images.aminmax())
    if low < 0 or high > 1:
        raise StudyError(
            f"images: values from {low:.3g} to {high:.3g} where [0, 1] is wanted; do not normalise them (the "
            "model's own normalisation is applied inside), and divide 8-bit values by 255"
        )


def first_not_finite(batch: Tensor) -> int | None:
    """Position of the first item with NaN or infinite values; one item at a time, as the batch may fill the memory."""
    return next((position for position, item in enumerate(batch) if not item.isfinite().all()), None)


def checked_targets(targets: Tensor | Sequence[int], num_images: int, backbone: Any) -> Int64[Tensor, " n"]:
    """
    Raises:
        StudyError: they are not one class number for each image, or not a class of the model.
    """
    classes = torch.as_tensor(targets)
    if classes.shape != (num_images,) or classes.is_floating_point() or classes.dtype == torch.bool:
        raise StudyError(
            f"targets: {classes.dtype} of shape {list(classes.shape)} where one class number for each of "
            f"{num_images} images is wanted"
        )
    if wrong := [int(target) for target in classes if not 0 <= target < backbone.num_classes]:
        raise StudyError(f"targets: {wrong[0]} is no class of this model; choose from 0 to {backbone.num_classes - 1}")
    return classes.long()
