"""What all scores of maps share: images taken some at a time, numbers that are refused, the positive part as mass."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

IMAGES_AT_A_TIME = 32  # bounds the memory of a long test set, and is how often progress is told


def blocks(count: int) -> Iterator[slice]:
    """Images 0 to `count`, some at a time."""
    return (slice(first, min(first + IMAGES_AT_A_TIME, count)) for first in range(0, count, IMAGES_AT_A_TIME))


def require_finite(values: Tensor, name: str) -> None:
    """Refuse NaN and infinite values: they have no rank and no mass.

    Raises:
        ValueError: opens with the argument's name.
    """
    if not values.isfinite().all():
        raise ValueError(f"{name}: NaN or infinite values cannot be scored")


def positive_mass(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """The positive part of maps in float64, whose sums over many pixels stay exact enough to compare.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    require_finite(maps, "attributions")
    return maps.double().clamp_min(0)


def share(part: Float[Tensor, " n"], whole: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Part of the whole, 0 where there is no whole."""
    return part / torch.where(whole > 0, whole, 1)
