"""Imputation of pixels that are gone from those that are left: noisy linear imputation, as in ROAD.

Rong et al. 2022 (arXiv 2202.00449): a missing pixel is the weighted mean of its eight neighbours, missing ones
included, so all of them follow from one sparse linear system; a little noise hides which ones they were. A fixed
substrate shows the shape of what was removed, and a network may read that shape; here it hardly can.
"""

from collections.abc import Callable
from functools import cache
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from scipy.sparse import csr_array, diags_array, kron
from scipy.sparse.linalg import splu
from torch import Tensor

DIRECT, DIAGONAL = 1 / 6, 1 / 12  # ROAD's weights of the neighbours
NOISE = 0.01  # ROAD's standard deviation, here of values in [0, 1]

# one image and which of its pixels are gone, several times over -> that many images
Imputer = Callable[[Float[Tensor, "3 h w"], Bool[Tensor, "k h w"]], Float[Tensor, "k 3 h w"]]


def noisy_linear(image: Float[Tensor, "3 h w"], gone: Bool[Tensor, "k h w"]) -> Float[Tensor, "k 3 h w"]:
    """The image with pixels that are gone imputed; those that are left are untouched.

    The noise follows from the image alone, so a pixel has the same in every batch. With no pixel left the system has
    no solution; then the image's mean colour takes every place, which is all that its smoothest solution could be.
    """
    pixels = image.cpu().double().flatten(1).numpy()
    noise = _noise(image)
    filled = [
        np.where(lost, _solved(pixels, lost, image.shape[2]) + noise, pixels) for lost in gone.cpu().flatten(1).numpy()
    ]
    return torch.from_numpy(np.stack(filled)).clamp(0, 1).view(len(gone), *image.shape).to(image)


def _noise(image: Float[Tensor, "3 h w"]) -> Float64[np.ndarray, "3 pixels"]:
    seed = crc32(image.cpu().contiguous().numpy().tobytes())
    return np.random.default_rng(seed).normal(0, NOISE, (3, image[0].numel()))


def _solved(
    pixels: Float64[np.ndarray, "3 pixels"], lost: Bool[np.ndarray, " pixels"], width: int
) -> Float64[np.ndarray, "3 pixels"]:
    """The pixels with those that are lost solved for."""
    if not lost.any():
        return pixels
    if lost.all():
        return np.broadcast_to(pixels.mean(axis=1, keepdims=True), pixels.shape)
    weights = _neighbours(lost.size // width, width)[lost]
    totals = diags_array(weights.sum(axis=1))  # fewer than eight neighbours at the border weigh more
    solver = splu((totals - weights[:, lost]).tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    solved = pixels.copy()
    solved[:, lost] = solver.solve(weights[:, ~lost] @ pixels[:, ~lost].T).T
    return solved


@cache
def _neighbours(rows: int, columns: int) -> csr_array:
    """Weights between all pixels of a picture."""
    down, across = (diags_array([np.ones(side - 1)] * 2, offsets=[-1, 1]) for side in (rows, columns))
    here, there = diags_array(np.ones(rows)), diags_array(np.ones(columns))
    return csr_array(DIRECT * (kron(here, across) + kron(down, there)) + DIAGONAL * kron(down, across))
