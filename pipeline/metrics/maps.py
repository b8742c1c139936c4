"""What all scores of maps share: numbers that are refused, and the positive part as mass."""

import torch
from jaxtyping import Float
from torch import Tensor


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
