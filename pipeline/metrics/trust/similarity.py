"""How alike two maps of the same image are: by the order of their values, and by structure.

Even maps of different images are somewhat alike, for centre bias and smoothness alone. What a similarity means is read
beside that of the same maps with those of other images (`swapped_partners` of the baselines).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.metrics.maps import require_finite

WINDOW_SIGMA, WINDOW_RADIUS = 1.5, 5  # pixels; of Wang et al. 2004, as are the two constants below
STABLE_MEANS, STABLE_VARIANCES = 0.01**2, 0.03**2  # for values in [0, 1]

Maps = dict[str, Float[Tensor, "n _ _"]]  # by method, each on its own grid
Scores = dict[str, Float[Tensor, " n"]]  # by method
Explain = Callable[[Float[Tensor, "n 3 h w"], Int64[Tensor, " n"]], Maps]  # images and targets; bounds its own memory
Measure = Callable[[Float[Tensor, "n h w"], Float[Tensor, "n h w"]], Float[Tensor, " n"]]


def compare(maps: Maps, others: Maps, measure: Measure) -> Scores:
    """The measure between the maps of each method."""
    return {method: measure(maps[method], others[method]) for method in maps}


def spearman(maps: Float[Tensor, "n h w"], others: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Rank correlation of the cells of each pair of maps, in [-1, 1]; tied cells share their mean rank.

    NaN where either map is flat (blank ones are): it orders nothing. Leave those out of a mean and count them.

    Raises:
        ValueError: a value is NaN or infinite.
    Source: Spearman 1904; the check of Adebayo et al. 2018, here of signed values as the maps give them.
    """
    one, other = _centred_ranks(maps), _centred_ranks(others)
    return (one * other).sum(1) / (one.square().sum(1) * other.square().sum(1)).sqrt()


def ssim(maps: Float[Tensor, "n h w"], others: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """Structural similarity, in [-1, 1], of each pair of maps scaled to [0, 1]; the mean over all pixels.

    Maps are reflected at their border, so that what lies on it counts. A flat map is scaled to zero: two of them are
    alike (1), one is unlike a map of any structure.

    Raises:
        ValueError: a value is NaN or infinite, or a side has 5 px or fewer: native grids are upsampled first.
    Source: Wang et al. 2004, Gaussian window of 11 x 11 px; the border as torchmetrics has it.
    """
    if min(maps.shape[1:]) <= WINDOW_RADIUS:
        raise ValueError(f"maps: a side of {min(maps.shape[1:])} px is too short; upsample native grids first")
    one, other = _unit_range(maps, "maps"), _unit_range(others, "others")
    mean, other_mean = _smooth(one), _smooth(other)
    variances = _smooth(one**2) - mean**2 + _smooth(other**2) - other_mean**2
    covariance = _smooth(one * other) - mean * other_mean
    means = (2 * mean * other_mean + STABLE_MEANS) / (mean**2 + other_mean**2 + STABLE_MEANS)
    return (means * (2 * covariance + STABLE_VARIANCES) / (variances + STABLE_VARIANCES)).mean((1, 2))


def _centred_ranks(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n cells"]:
    """Ranks less their mean, so exactly zero for a flat map."""
    require_finite(maps, "maps")
    values = maps.flatten(1).contiguous()
    ascending = values.sort(dim=1).values
    smaller = torch.searchsorted(ascending, values)
    not_larger = torch.searchsorted(ascending, values, right=True)
    return (smaller + not_larger - values.shape[1]).double() / 2


def _unit_range(maps: Float[Tensor, "n h w"], name: str) -> Float[Tensor, "n h w"]:
    require_finite(maps, name)
    values = maps.double()
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    return (values - low) / torch.where(high > low, high - low, 1)


def _smooth(maps: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
    """Means under the window around each pixel."""
    offsets = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1, dtype=maps.dtype, device=maps.device)
    line = torch.exp(-((offsets / WINDOW_SIGMA) ** 2) / 2)
    line /= line.sum()
    padded = F.pad(maps[:, None], [WINDOW_RADIUS] * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))[:, 0]
