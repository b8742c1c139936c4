"""The curves of single images, which `score` leaves in curves.npz: read name by name, as a large cell has many.

A key is `<method>/<rule>/<curve>`; a line is an image, in the order of the heatmaps of that rule.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from pipeline.errors import StudyError

CURVES = ("insertion", "deletion")
NORMAL_95 = 1.96  # standard errors on either side of a mean

Curve = tuple[str, str]  # method, one of CURVES
Lines = Float32[np.ndarray, "n points"]


def half_bands(scores_dir: Path, methods: Iterable[str]) -> dict[Curve, Float[np.ndarray, " points"]]:
    """By method and curve, 1.96 standard errors over images of the mean curve for the class predicted."""
    return {curve: half_band(lines) for curve, lines in image_curves(scores_dir, methods).items()}


def half_band(lines: Lines) -> Float[np.ndarray, " points"]:
    """Of one image nothing is known of the spread: NaN."""
    if len(lines) < 2:
        return np.full(lines.shape[1], np.nan)
    return NORMAL_95 * lines.std(axis=0, ddof=1, dtype=np.float64) / np.sqrt(len(lines))


def image_curves(
    scores_dir: Path, methods: Iterable[str], positions: Sequence[int] | None = None
) -> dict[Curve, Lines]:
    """By method and curve, for the class predicted, the lines at the positions given; None takes all.

    Raises:
        StudyError: curves.npz is absent, damaged or of other heatmaps.
    """
    path = scores_dir / "curves.npz"
    chosen = slice(None) if positions is None else list(positions)
    advice = f"run `dvc repro score@{scores_dir.parent.name}-{scores_dir.name}`"
    try:
        with np.load(path) as held:
            wanted = [(method, curve) for method in methods for curve in CURVES]
            return {(method, curve): held[f"{method}/predicted/{curve}"][chosen] for method, curve in wanted}
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; {advice}") from None
    except (KeyError, IndexError, ValueError, zipfile.BadZipFile):
        raise StudyError(f"{path}: not the curves of this cell's heatmaps; {advice}") from None
