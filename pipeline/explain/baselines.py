"""Maps that know nothing of the model, or of the image: what a method must beat to have said something.

Four come from `baseline_maps`. Noise at image resolution is the random map of the pixels' own grid, so whoever wants it
gives the image's size among the grids. A swapped image's map is another image's map of the same method, found by
`swapped_partners`. `oracle_maps` are no floor but a reference from above: what a map would be that knew the finding.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
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
    its own, `random_<rows>x<columns>`. The image's own size is a grid too: random pixels.
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


def oracle_maps(masks: Bool[Tensor, "n h w"], grid: Grid) -> Float[Tensor, "n rows columns"]:
    """Each cell's share inside the segmentation mask; the mask itself on the grid of the pixels.

    On a method's grid it shows how well a map as coarse as that could do: mass that spills over a small finding's edge
    is the grid's doing. It is a reference, no bound: one cell alone inside the finding has a purer mass, and what a
    model uses may lie outside. An empty mask gives a blank map, which ranks nothing: leave those images out.
    """
    return functional.adaptive_avg_pool2d(masks.float(), grid)


def swapped_partners(
    rows: Int64[np.ndarray, " n"], classes: Int64[np.ndarray, " n"], seed: int
) -> Int64[np.ndarray, " n"]:
    """For each image the position of the one whose map it is given, never itself, of another class where that can be.

    The partner's map keeps all that a method draws whatever the image shows: place, spread, artefacts. Taken from
    another class, it also knows nothing of this image's class, so a gain over it is what the method read in the
    image; within the class it would share the class's typical layout and count that against the method. Every map is
    given once, so the swapped maps are the method's own, with their place in the set alone changed. Images of one
    class share it only where it has more than half of all images, and then as few as possible.

    Args:
        rows: all images of the test set that are explained, each once: a partner depends on the set, not on a batch
            or the order.
        classes: the class that each image's map explains.

    Raises:
        ValueError: there is one image or none, or a row comes twice.
    """
    if len(rows) < 2 or len(np.unique(rows)) < len(rows):
        raise ValueError("rows: maps can be swapped between two images or more, each named once")
    draws = np.array([np.random.default_rng(cell_seed(seed, "swapped", int(row))).random() for row in rows])
    order = np.lexsort((draws, classes))
    # In a ring of blocks, one a class, the largest block's length leads out of every block that fits in half the ring.
    step = np.unique(classes, return_counts=True)[1].max() % len(rows) or 1
    partners = np.empty_like(order)
    partners[order] = np.roll(order, -step)
    return partners


def _positions(side: int) -> Float[Tensor, " side"]:
    """Middles of the cells as fractions of the side, zero in the middle."""
    return (torch.arange(side) + 0.5) / side - 0.5
