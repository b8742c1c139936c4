"""Interventions on one place of an image: another image's pixels are pasted in, or what is there is taken away.

A place is a box of pixels; the places tried are windows over the image, small beside it and half overlapping, so that
anything as small as half a window lies whole in one of them.
"""

from types import EllipsisType

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pipeline.metrics.imputation import noisy_linear
from pipeline.seeds import cell_seed

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; the last two are the first outside
STEPS_PER_SIDE, WINDOW_STEPS = 8, 2  # a window is a quarter of each side, a sixteenth of the image

Images = Float[Tensor, "n 3 h w"]


def windows(height: int, width: int) -> list[Box]:
    """All windows in reading order; any two neighbours share half of their area."""
    rows, columns = _spans(height), _spans(width)
    return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def inside(box: Box, height: int, width: int) -> Bool[Tensor, "h w"]:
    """Which pixels lie in the box."""
    pixels = torch.zeros(height, width, dtype=torch.bool)
    pixels[_slices(box)] = True
    return pixels


def free_of(masks: Bool[Tensor, "n h w"], box: Box) -> Bool[Tensor, " n"]:
    """Which masks do not even touch the box."""
    return ~masks[_slices(box)].flatten(1).any(dim=1)


def shared_pixels(one: Box, other: Box) -> int:
    down = min(one[2], other[2]) - max(one[0], other[0])
    across = min(one[3], other[3]) - max(one[1], other[1])
    return max(down, 0) * max(across, 0)


def pasted(images: Images, others: Images, box: Box) -> Images:
    """The images with each other image's pixels in the box."""
    result = images.clone()
    result[_slices(box)] = others[_slices(box)]
    return result


def neutralised(images: Images, box: Box) -> Images:
    """The images with the box filled in from its surroundings, by noisy linear imputation.

    Nothing of the place is left, so nothing that tells a class. A mean over images would show a patch that no image
    has, and a blur would keep the colour of what it hides.
    """
    gone = inside(box, images.shape[2], images.shape[3])[None]
    return torch.cat([noisy_linear(image, gone) for image in images])


def donors(
    rows: Int64[np.ndarray, " n"], classes: Int64[Tensor, " n"], allowed: Bool[Tensor, " n"], seed: int
) -> Int64[Tensor, " n"]:
    """For each image the position of an allowed one of another class, -1 where there is none.

    It is the first in an order that is drawn for each image by its row: the same one for all places where it may be.
    """
    orders = [np.random.default_rng(cell_seed(seed, "donor", int(row))).permutation(len(rows)) for row in rows]
    order = torch.from_numpy(np.stack(orders)).to(classes.device)
    fit = allowed[order] & (classes[order] != classes[:, None])
    first = order.gather(1, fit.int().argmax(dim=1, keepdim=True))[:, 0]
    return torch.where(fit.any(dim=1), first, -1)


def _spans(side: int) -> list[tuple[int, int]]:
    edges = [step * side // STEPS_PER_SIDE for step in range(STEPS_PER_SIDE + 1)]
    return list(zip(edges, edges[WINDOW_STEPS:], strict=False))


def _slices(box: Box) -> tuple[EllipsisType, slice, slice]:
    top, left, bottom, right = box
    return ..., slice(top, bottom), slice(left, right)
