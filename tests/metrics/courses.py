"""Curves of a course whose pixels are exchanged one for one, for tests that begin at two pictures."""

from jaxtyping import Float, Int, Int32
from torch import Tensor

from pipeline.metrics.faithfulness import Course, Predict, Seen, even_curves, exchanged


def perturbation_curves(
    predict: Predict,
    start: Seen,
    finish: Seen,
    ranks: Int32[Tensor, "n h w"],
    targets: Int[Tensor, " n"],
    steps: int,
    batch_size: int,
) -> Float[Tensor, "n points"]:
    """`even_curves` of the course on which the pixels of `start` give way to those of `finish`."""
    between = exchanged(start.pixels, finish.pixels)
    return even_curves(predict, Course(start, finish, between, ranks, targets), steps, batch_size)
