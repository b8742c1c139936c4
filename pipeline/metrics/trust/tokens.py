"""Tokens whose norm breaks out: large transformers keep global facts in patches that show nothing.

An attribution that lies on such a token says nothing of the picture there. Darcet et al. 2024 (Vision Transformers
Need Registers) find two clusters of norms at the output of the last layer, and part them at 150 for DINOv2. That number
is one model's own, so here a token breaks out whose norm exceeds three times the median of its image's patch tokens:
the median does not see a minority of any size, and a plain spread of norms does not reach three times.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from pipeline.metrics.localisation import mass_ratio
from pipeline.metrics.maps import require_finite
from pipeline.models.build import Classifier
from pipeline.models.family import family_of

TIMES_MEDIAN = 3


def last_tokens(classifier: Classifier, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n h w c"]:
    """Patch tokens after the last block and before the final norm, which would level them; one forward pass.

    Raises:
        ValueError: the model is in train mode.
        StudyError: the model's family is not known.
    """
    if classifier.training:
        raise ValueError("classifier: is in train mode; call .eval() first")
    family = family_of(classifier.backbone)
    last_block = classifier.backbone.get_submodule(family.attention[-1].removesuffix(".attn"))
    seen: list[Tensor] = []
    handle = last_block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        with torch.no_grad():
            classifier(images)
    finally:
        handle.remove()
    return family.to_cam_grid(seen[0])


def outlier_tokens(tokens: Float[Tensor, "n h w c"]) -> Bool[Tensor, "n h w"]:
    """Which tokens' norm exceeds three times the median of their image. Their mean is the share of outliers.

    Raises:
        ValueError: a token is NaN or infinite.
    """
    require_finite(tokens, "tokens")
    norms = tokens.double().norm(dim=-1)
    return norms > TIMES_MEDIAN * norms.flatten(1).quantile(0.5, dim=1)[:, None, None]


def outlier_mass(maps: Float[Tensor, "n h w"], outliers: Bool[Tensor, "n rows columns"]) -> Float[Tensor, " n"]:
    """Share of the positive attribution on the outliers; by chance it would be their share of the tokens.

    A finer map has several cells on each token. 0 where no attribution is positive.

    Raises:
        ValueError: an attribution is NaN or infinite.
    """
    covered = F.interpolate(outliers[:, None].float(), size=maps.shape[1:], mode="nearest")[:, 0] > 0
    return mass_ratio(maps, covered)
