"""RISE: how probable the target stays behind random masks (Petsiuk et al. 2018); it asks nothing but probabilities."""

import hashlib

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pipeline.explain.watch import at_rest, fp32_gradients
from pipeline.models.build import Classifier

CELLS = 7  # of a mask, down and across; RISE's figures
SHOWN = 0.5  # probability that a cell is shown


def rise(
    classifier: Classifier, images: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, " n"], masks: int
) -> Float[Tensor, "n h w"]:
    """Mean over masks of the target's probability times the mask, divided by the masks' mean; what is hidden is black.

    Each image draws masks of its own, which follow from its pixels, so its map does not depend on the batch.

    Args:
        masks: for each image; as many forward passes of the batch.
    """
    generators = [_generator(image) for image in images]
    total = images.new_zeros(len(images), *images.shape[2:])
    with at_rest(classifier), fp32_gradients(images.device), torch.no_grad():
        for _ in range(masks):
            shown = torch.stack([_mask(generator, *images.shape[2:]) for generator in generators]).to(images)
            probabilities = classifier(images * shown[:, None]).softmax(dim=1).gather(1, targets[:, None])
            total += probabilities[:, :, None] * shown
    return total / (masks * SHOWN)


def _generator(image: Float[Tensor, "3 h w"]) -> torch.Generator:
    digest = hashlib.sha256(image.float().cpu().numpy().tobytes()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _mask(generator: torch.Generator, height: int, width: int) -> Float[Tensor, "h w"]:
    """Shown or hidden cells, blurred by bilinear enlargement and moved by less than a cell; 1 is shown."""
    cells = (torch.rand(CELLS, CELLS, generator=generator) < SHOWN).float()
    cell_height, cell_width = -(-height // CELLS), -(-width // CELLS)
    size = ((CELLS + 1) * cell_height, (CELLS + 1) * cell_width)
    large = functional.interpolate(cells[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    top = int(torch.randint(cell_height, (1,), generator=generator))
    left = int(torch.randint(cell_width, (1,), generator=generator))
    return large[top : top + height, left : left + width]
