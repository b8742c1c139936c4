"""How scattered the positive attribution of a map is, and how much of it lies on the border.

A map without positive attribution counts as flat: as scattered as can be. All these numbers depend on the grid (a
7 x 7 map cannot be as sparse as one of 56 x 56), so methods are compared on one grid, the finer maps averaged to it.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.metrics.localisation import mass_ratio
from pipeline.metrics.maps import positive_mass

ROUNDING = 1e-12  # relative; sums of equal cells may fall short of half by it


def gini(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Gini index of the positive attribution: 0 for a flat map, 1 - 1 / cells where one cell has all of it.

    Raises:
        ValueError: an attribution is NaN or infinite.
    Source: Hurley & Rickard 2009, eq. 11; Chalasani et al. 2020 for attributions.
    """
    shares = _shares(maps).sort(dim=1).values
    cells = shares.shape[1]
    places = torch.arange(1, cells + 1, dtype=shares.dtype, device=shares.device)
    return 1 - 2 * (shares * (cells - places + 0.5) / cells).sum(1)


def entropy(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Shannon entropy of the positive attribution over that of a flat map: 1 if flat, 0 if one cell has all of it.

    A grid of a single cell has 0.

    Raises:
        ValueError: an attribution is NaN or infinite.
    """
    shares = _shares(maps)
    return torch.special.entr(shares).sum(1) / math.log(max(shares.shape[1], 2))


def half_mass_area(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Smallest share of the cells that holds half of the positive attribution, whole cells only.

    Raises:
        ValueError: an attribution is NaN or infinite.
    """
    held = _shares(maps).sort(dim=1, descending=True).values.cumsum(1)
    return ((held < 0.5 * (1 - ROUNDING)).sum(1) + 1).double() / held.shape[1]


def border_mass(maps: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Share of the positive attribution in the outermost ring of cells; 0 where none is positive.

    On a native grid, so that the ring is one of tokens. `border_share` is what chance puts there.

    Raises:
        ValueError: an attribution is NaN or infinite.
    """
    return mass_ratio(maps, _ring(maps.shape[1:]).to(maps.device).expand(maps.shape))


def border_share(grid: tuple[int, int]) -> float:
    """Share of the grid's cells that lie in its outermost ring."""
    return _ring(grid).double().mean().item()


def _ring(grid: tuple[int, ...]) -> Tensor:
    ring = torch.ones(grid, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    return ring


def _shares(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n cells"]:
    """Each cell's share of the positive attribution; equal shares where there is none."""
    mass = positive_mass(maps).flatten(1)
    total = mass.sum(dim=1, keepdim=True)
    return torch.where(total > 0, mass / total, 1 / mass.shape[1])
