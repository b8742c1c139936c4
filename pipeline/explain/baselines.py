"""Maps that know nothing of the model: what a method must beat to have said something."""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pipeline.models.family import Grid
from pipeline.seeds import cell_seed

CENTRE_SIGMA = 0.25  # of the grid's side
GREY = (0.299, 0.587, 0.114)  # luma of red, green, blue: ITU-R BT.601
SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))  # left to right; transposed, top to bottom


def baseline_maps(
    images: Float[Tensor, "n 3 height width"],
    rows: Int64[np.ndarray, " n"],
    cam_grid: Grid,
    method_grids: Iterable[Grid],
    seed: int,
) -> dict[str, Float[Tensor, "n _ _"]]:
    """All baselines on Grad-CAM's grid, by name.

    A fine map and a coarse one score differently for their grid alone, so each other grid of a method gets noise of
    its own, `random_<rows>x<columns>`.
    """
    others = {f"random_{grid[0]}x{grid[1]}": grid for grid in method_grids if grid != cam_grid}
    return {
        "random": random_maps(rows, cam_grid, seed),
        "centre": centre_map(cam_grid).expand(len(rows), -1, -1),
        "edge": edge_maps(images, cam_grid),
        **{name: random_maps(rows, grid, seed) for name, grid in others.items()},
    }


def random_maps(rows: Int64[np.ndarray, " n"], grid: Grid, seed: int) -> Float[Tensor, "n h w"]:
    """Uniform noise that depends on the seed, the image's row and the grid only, not on the batch."""
    draws = [np.random.default_rng(cell_seed(seed, "random", int(row), *grid)).random(grid) for row in rows]
    return torch.tensor(np.stack(draws), dtype=torch.float32)


def centre_map(grid: Grid) -> Float[Tensor, "h w"]:
    """A Gaussian on the middle of the grid, one at its peak."""
    down, across = (torch.exp(-((_positions(side) / CENTRE_SIGMA) ** 2) / 2) for side in grid)
    return down[:, None] * across[None, :]


def edge_maps(images: Float[Tensor, "n 3 h w"], grid: Grid) -> Float[Tensor, "n rows columns"]:
    """Strength of the grey image's edges (Sobel), averaged over each cell of the grid."""
    grey = (images * images.new_tensor(GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    across = images.new_tensor(SOBEL)
    kernels = torch.stack([across, across.T])[:, None]
    # Replicated borders: the frame of the image is no edge.
    slopes = functional.conv2d(functional.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    return functional.adaptive_avg_pool2d(slopes.norm(dim=1), grid)


def _positions(side: int) -> Float[Tensor, " side"]:
    """Middles of the cells as fractions of the side, zero in the middle."""
    return (torch.arange(side) + 0.5) / side - 0.5
