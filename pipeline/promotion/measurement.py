"""A number with its interval and the images it was measured on."""

import math
from dataclasses import dataclass

from pipeline.seeds import cell_seed


@dataclass(frozen=True)
class Measurement:
    """The value and both ends of its 95 % interval; None where the images do not tell."""

    value: float | None
    low: float | None
    high: float | None
    images: int


@dataclass(frozen=True)
class Resampling:
    """How intervals are found that need random draws."""

    seed: int
    resamples: int

    def of(self, *names: str) -> "Resampling":
        """Draws that depend on what they are for, not on what was drawn before."""
        return Resampling(cell_seed(self.seed, "promotion", *names), self.resamples)


NOTHING = Measurement(None, None, None, 0)


def measurement(interval: tuple[float, float, float], images: int) -> Measurement:
    value, low, high = (None if math.isnan(number) else float(number) for number in interval)
    return Measurement(value, low, high, images)
