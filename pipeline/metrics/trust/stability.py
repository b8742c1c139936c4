"""Maps made again for another class, for the mirrored and for a noisy image: each compared with the first maps.

A method that reads the class gives another class another map (low similarity is good). A method that reads the image
gives nearly the same image nearly the same map (high is good). Similarity is Spearman's; NaN where a map is flat.
"""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.metrics.maps import require_finite
from pipeline.metrics.trust.similarity import Explain, Maps, Scores, compare, spearman
from pipeline.seeds import cell_seed

NOISE = 0.02  # standard deviation, of the range [0, 1]: about five grey levels


def runner_up(logits: Float[Tensor, "n classes"], targets: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The likeliest class other than the target; of equal ones the first.

    Raises:
        ValueError: a logit is NaN or infinite, or there is one class only.
    """
    require_finite(logits, "logits")
    if logits.shape[1] < 2:
        raise ValueError("logits: one class has no runner-up")
    return logits.scatter(1, targets[:, None], -torch.inf).argmax(dim=1)


def class_similarity(
    explain: Explain,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    logits: Float[Tensor, "n classes"],
    maps: Maps,
) -> Scores:
    """How alike each target's map and the runner-up's are; near 1 the method does not see which class it explains.

    Args:
        maps: what `explain` gave for the images and targets.
    """
    return compare(maps, explain(images, runner_up(logits, targets)), spearman)


def flip_similarity(
    explain: Explain, images: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, " n"], maps: Maps
) -> Scores:
    """How alike each map and the mirrored image's map, mirrored back, are; the target stays, whatever is predicted.

    Left and right only: a cell or a lesion has neither, but an ultrasound's depth has a direction.
    """
    mirrored = explain(images.flip(3), targets)
    return compare(maps, {method: map_.flip(2) for method, map_ in mirrored.items()}, spearman)


def noise_similarity(
    explain: Explain,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"],
    maps: Maps,
    rows: Int64[np.ndarray, " n"],
    seed: int,
) -> Scores:
    """How alike each map and the map of the image under faint Gaussian noise are; see `noisy`."""
    return compare(maps, explain(noisy(images, rows, seed), targets), spearman)


def noisy(images: Float[Tensor, "n 3 h w"], rows: Int64[np.ndarray, " n"], seed: int) -> Float[Tensor, "n 3 h w"]:
    """Images in [0, 1] under Gaussian noise that depends on the seed and the image's row only, not on the batch."""
    generators = [np.random.default_rng(cell_seed(seed, "noise", int(row))) for row in rows]
    draws = np.stack([generator.standard_normal(images.shape[1:], dtype=np.float32) for generator in generators])
    return (images + NOISE * torch.from_numpy(draws).to(images)).clamp(0, 1)
