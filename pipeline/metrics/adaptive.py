"""Insertion and deletion curves evaluated where they bend, for a fraction of the passes.

Points lie on the grid of the paper's 224 steps. A few even ones come first; then, round by round, each image's worst
intervals are halved until the error estimated for its area is small. All images of a round share their batches, and
no image's points depend on another image.

The estimate takes a curve for a rough path: over an interval of width w across which the score moves by d, the
trapezoid's error has a standard deviation of w d / sqrt(12), as for Brownian motion with the local roughness d²/w.
A score that stands still between two points may move within, so d is held up by a share of the neighbours' slope. The
constants are tuned on the 1,280 curves of the embedded study: of their areas the mean lies 0.0015 from that of all
steps and the worst 0.0096, for 62 passes an image: 1/6.9 of the 216 steps that 64 px allow, 1/7.2 of 224 steps
(`python -m benchmarks.agreement` measures it).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.metrics.faithfulness import Course, Predict, auc, end_points, even_curves, pixel_counts, scores_at

GRID_STEPS = 224
FIRST_POINTS = 11
SPLITS_A_ROUND = 2
TOLERANCE = 0.00284  # estimated standard deviation of an area at which a curve is left
NEIGHBOUR_SHARE = 0.7
TRUSTED_SIGMAS = 2  # 97 of 100 of the study's areas lie within


@dataclass(frozen=True)
class Curves:
    """One curve for each image, its area by the trapezoid rule, and what it cost.

    An image that needed fewer points than others repeats its last one; that changes neither a plot nor an area.
    """

    steps: int  # equal ones, on whose grid all points lie
    fractions: Float[Tensor, "n points"]
    probabilities: Float[Tensor, "n points"]
    areas: Float[Tensor, " n"]
    errors: Float[Tensor, " n"]  # how far the area of all steps may lie away, at two sigmas; 0 where all are taken
    passes: Int64[Tensor, " n"]  # forward images, both ends included although curves share them


def joined(parts: Sequence[Curves]) -> Curves:
    """Curves of all parts, one after the other, padded to the longest as said above."""
    length = max(part.fractions.shape[1] for part in parts)
    return Curves(
        steps=parts[0].steps,
        fractions=torch.cat([_padded(part.fractions, length) for part in parts]),
        probabilities=torch.cat([_padded(part.probabilities, length) for part in parts]),
        areas=torch.cat([part.areas for part in parts]),
        errors=torch.cat([part.errors for part in parts]),
        passes=torch.cat([part.passes for part in parts]),
    )


def parted(curves: Curves, size: int) -> list[Curves]:
    """The curves of `size` images after `size` images."""
    columns = (curves.fractions, curves.probabilities, curves.areas, curves.errors, curves.passes)
    return [Curves(curves.steps, *part) for part in zip(*(column.split(size) for column in columns), strict=True)]


def on_even_grid(curves: Curves) -> Float[Tensor, "n points"]:
    """Probabilities after each of the equal steps.

    Those that were not asked for lie on the line between their neighbours, so areas stay what they are.
    """
    grid = np.linspace(0, 1, curves.steps + 1)
    rows = zip(curves.fractions.numpy(), curves.probabilities.numpy(), strict=True)
    return torch.from_numpy(np.stack([np.interp(grid, fractions, points) for fractions, points in rows]))


def fixed_curves(predict: Predict, course: Course, steps: int, batch_size: int) -> Curves:
    """`even_curves` with its areas, which are exact by definition."""
    points = even_curves(predict, course, steps, batch_size).cpu()
    count, length = points.shape
    return Curves(
        steps=length - 1,
        fractions=torch.linspace(0, 1, length, dtype=torch.float64).expand(count, -1),
        probabilities=points,
        areas=auc(points),
        errors=torch.zeros(count, dtype=torch.float64),
        passes=torch.full((count,), length),
    )


def adaptive_curves(predict: Predict, course: Course, batch_size: int) -> Curves:
    """Curves whose areas lie near those of `GRID_STEPS` even steps, or of as many as there are units.

    Batches of another size may move a score's last digits, and with them, rarely, where a curve is evaluated.

    Raises:
        StudyError: a probability is not finite.
    """
    counts = torch.tensor(pixel_counts(course.units, min(GRID_STEPS, course.units)))
    scores = np.full((len(course.ranks), len(counts)), np.nan)
    scores[:, 0], scores[:, -1] = (_finite(ends) for ends in end_points(course))
    wanted = [_first_positions(len(counts))] * len(scores)
    while any(map(len, wanted)):
        owners = np.repeat(np.arange(len(scores)), [len(positions) for positions in wanted])
        positions = np.concatenate(wanted)
        found = scores_at(predict, course, torch.from_numpy(owners), counts[positions], batch_size)
        scores[owners, positions] = _finite(found)
        wanted = [_worst(row) for row in scores]
    return _collected(scores)


def interval_errors(
    fractions: Float64[np.ndarray, " points"], scores: Float64[np.ndarray, " points"]
) -> Float64[np.ndarray, " intervals"]:
    """Standard deviation of the trapezoid's error in each interval, as the module says."""
    widths, moves = np.diff(fractions), np.abs(np.diff(scores))
    slopes = np.pad(moves / widths, 1)
    of_neighbours = NEIGHBOUR_SHARE * widths * np.maximum(slopes[:-2], slopes[2:])
    return widths * np.maximum(moves, of_neighbours) / np.sqrt(12)


def _padded(points: Float[Tensor, "n points"], length: int) -> Float[Tensor, "n length"]:
    return torch.cat([points, points[:, -1:].expand(-1, length - points.shape[1])], dim=1)


def _finite(scores: Float[Tensor, " n"]) -> Float64[np.ndarray, " n"]:
    if not scores.isfinite().all():
        raise StudyError("model: a probability is not a finite number; the checkpoint is damaged or bf16 too coarse")
    return scores.double().cpu().numpy()


def _first_positions(length: int) -> Int64[np.ndarray, " k"]:
    return np.unique(np.linspace(0, length - 1, FIRST_POINTS).round().astype(np.int64))[1:-1]


def _worst(row: Float64[np.ndarray, " grid"]) -> Int64[np.ndarray, " k"]:
    """Grid positions to ask next; none once the error is small or no position is left between two known."""
    known, errors = _known(row)
    if np.linalg.norm(errors) <= TOLERANCE:
        return known[:0]
    urgency = errors * np.diff(known)  # wide intervals a little earlier: most can hide in them
    chosen = np.argsort(-urgency, kind="stable")[:SPLITS_A_ROUND]
    chosen = np.sort(chosen[errors[chosen] > 0])
    return (known[chosen] + known[chosen + 1]) // 2


def _known(row: Float64[np.ndarray, " grid"]) -> tuple[Int64[np.ndarray, " k"], Float64[np.ndarray, " intervals"]]:
    """Positions asked so far and the errors between them; neighbours on the grid leave none."""
    known = np.flatnonzero(~np.isnan(row))
    errors = interval_errors(known / (len(row) - 1), row[known])
    return known, np.where(np.diff(known) > 1, errors, 0)


def _collected(scores: Float64[np.ndarray, "n grid"]) -> Curves:
    rows = [_known(row) for row in scores]
    passes = [len(known) for known, _ in rows]
    positions = np.stack([np.pad(known, (0, max(passes) - len(known)), mode="edge") for known, _ in rows])
    fractions, points = positions / (scores.shape[1] - 1), np.take_along_axis(scores, positions, axis=1)
    return Curves(
        steps=scores.shape[1] - 1,
        fractions=torch.from_numpy(fractions),
        probabilities=torch.from_numpy(points),
        areas=torch.from_numpy(np.trapezoid(points, fractions, axis=1)),
        errors=torch.tensor([TRUSTED_SIGMAS * np.linalg.norm(errors) for _, errors in rows], dtype=torch.float64),
        passes=torch.tensor(passes),
    )
