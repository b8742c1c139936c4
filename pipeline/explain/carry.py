"""Relevance carried backwards from the head to the patches, through windows, shifts and merges.

Only the row of the layers' product that the head reads is wanted, so a row vector is carried backwards, in O(t^2) per
layer instead of O(t^3) for the matrices.

A ViT layer is one window over all tokens. In a Swin, attention acts inside windows of a rolled grid, so the vector is
rolled, cut into windows, carried, and put back; before a stage whose grid was halved, it is shared among the 2 x 2
patches that were merged. This is exactly the product of the dense matrices over all tokens, without building one.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.models.family import Family, Grid, Windows

Vector = Float[Tensor, "n w t"]
Matrix = Float[Tensor, "n w t t"]
Hop = Callable[[Vector, Matrix], Vector]


def normalised_hop(vector: Vector, relevance: Matrix) -> Vector:
    """v norm(E + I): each token keeps 1 / (1 + its row sum) and gives the rest where it looked."""
    kept = vector / (1 + relevance.sum(dim=-1))
    return kept + plain_hop(kept, relevance)


def additive_hop(vector: Vector, relevance: Matrix) -> Vector:
    """v (E + I): each token keeps all and adds where it looked."""
    return vector + plain_hop(vector, relevance)


def plain_hop(vector: Vector, relevance: Matrix) -> Vector:
    """v E: each token gives all, as if there were no residual connection."""
    return (vector[:, :, None] @ relevance).squeeze(2)


def carry_back(
    start: Float[Tensor, "n h w"],
    relevance: Sequence[Float[Tensor, "n _ _ _"]],
    windows: Sequence[Windows],
    hop: Hop = normalised_hop,
) -> Float[Tensor, "n fine_h fine_w"]:
    """The row vectors `start`, on the last layer's grid, carried through every layer, last layer first.

    Args:
        start: weights of the last layer's tokens; what they sum to is kept by `normalised_hop`.
        relevance: E of each layer, first layer first, [image, window, token, token] and not negative.
        windows: where each layer's windows lie.
    """
    vector = start
    for layer, place in zip(reversed(relevance), reversed(windows), strict=True):
        if vector.shape[1:] != place.grid:
            vector = _unmerge(vector)
        vector = from_windows(hop(_to_windows(vector, place), layer), place)
    return vector


def readout(family: Family, like: Float[Tensor, "n classes"]) -> Float[Tensor, "n h w"]:
    """Equal weights on the tokens that the head reads, summing to one."""
    rows, columns = family.windows[-1].grid
    first, stop = family.read_tokens
    weights = like.new_zeros(len(like), rows * columns)
    weights[:, first:stop] = 1 / (stop - first)
    return weights.unflatten(1, (rows, columns))


def patches_of(tokens: Float[Tensor, "n h w"], family: Family, grid: Grid) -> Float[Tensor, "n rows columns"]:
    """The map without prefix tokens."""
    return tokens.flatten(1)[:, family.num_prefix_tokens :].unflatten(1, grid)


def without_lowest(relevance: Float[Tensor, "n w t t"], ratio: float) -> Float[Tensor, "n w t t"]:
    """Without each image's lowest entries, `ratio` of them over all its windows."""
    flat = relevance.flatten(1)
    highest = flat.topk(flat.shape[1] - int(flat.shape[1] * ratio), sorted=False)
    return torch.zeros_like(flat).scatter(1, highest.indices, highest.values).view_as(relevance)


def last_grid(family: Family) -> Grid:
    """Of the patches in the last layer."""
    return family.windows[-1].grid if family.stage_grids else family.patch_grid


def windows_refusal(family: Family) -> str | None:
    """Why relevance cannot be carried through the windows of a model, or None."""
    for windows in family.windows:
        if windows.grid[0] % windows.size[0] or windows.grid[1] % windows.size[1]:
            return (
                f"windows of {text(windows.size)} do not fill a grid of {text(windows.grid)}, whose padding would "
                "take relevance; choose another window_size or image_size_px"
            )
    for fine, coarse in pairwise(windows.grid for windows in family.windows):
        if fine not in (coarse, (2 * coarse[0], 2 * coarse[1])):
            return f"a grid of {text(fine)} cannot be halved without padding; choose another image_size_px"
    return None


def text(grid: Grid) -> str:
    return f"{grid[0]}x{grid[1]}"


def from_windows(tiles: Float[Tensor, "n windows t"], place: Windows) -> Float[Tensor, "n h w"]:
    (rows, columns), (height, width) = place.grid, place.size
    grid = tiles.reshape(-1, rows // height, columns // width, height, width).transpose(2, 3)
    return grid.reshape(len(tiles), rows, columns).roll(place.shift, dims=(1, 2))


def _to_windows(vector: Float[Tensor, "n h w"], place: Windows) -> Float[Tensor, "n windows t"]:
    (rows, columns), (height, width) = place.grid, place.size
    rolled = vector.roll((-place.shift[0], -place.shift[1]), dims=(1, 2))
    tiles = rolled.reshape(-1, rows // height, height, columns // width, width).transpose(2, 3)
    return tiles.reshape(len(vector), -1, height * width)


def _unmerge(vector: Float[Tensor, "n h w"]) -> Float[Tensor, "n fine_h fine_w"]:
    """Patch merging joins 2 x 2 tokens by one linear map, so each gets a quarter."""
    return vector.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4
