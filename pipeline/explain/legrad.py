"""LeGrad: how each layer's attention would raise the target's score, were that layer the last (2404.03214)."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.explain.carry import from_windows, last_grid, patches_of
from pipeline.explain.watch import by_image, check_seen, fp32_gradients, watched
from pipeline.models.build import Classifier
from pipeline.models.family import Family, family_of


def legrad(
    classifier: Classifier, images: Float[Tensor, "n 3 height width"], targets: Int64[Tensor, " n"]
) -> Float[Tensor, "n h w"]:
    """max(0, ds_l / dA_l), averaged over heads, queries and layers, s_l being the head on layer l's own tokens.

    One forward pass; each score's gradient ends at its own layer's attention. A Swin's head fits the tokens of its last
    stage only, so only the blocks of that stage are read.
    """
    family = family_of(classifier.backbone)
    depth = _readable_blocks(family)
    blocks = [name.removesuffix(".attn") for name in family.attention[-depth:]]
    with watched(classifier, classifier.backbone, family, blocks) as seen, fp32_gradients(images.device):
        classifier(images.clone().requires_grad_())
        check_seen(seen, family, blocks)
        columns = [_column_relevance(classifier.backbone, seen, block, targets) for block in blocks]
    places = family.windows[-depth:]
    grids = [from_windows(layer, place) for layer, place in zip(columns, places, strict=True)]
    return patches_of(torch.stack(grids).mean(dim=0), family, last_grid(family))


def _readable_blocks(family: Family) -> int:
    """How many blocks, counted from the last, have tokens that the head could read."""
    stage = family.attention[-1].rpartition("blocks.")[0]
    return sum(name.startswith(f"{stage}blocks.") for name in family.attention)


def _column_relevance(
    backbone: Any, seen: dict[str, Any], block: str, targets: Int64[Tensor, " n"]
) -> Float[Tensor, "n w t"]:
    logits = backbone.forward_head(backbone.norm(seen[block]))
    score = logits.gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, [seen[f"{block}.attn"]], retain_graph=True)
    return by_image(gradient.relu(), len(targets)).mean(dim=(2, 3))
