"""A classifier as the engine asks it: probabilities of images, in evaluation mode, fused, in the precision asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.device import autocast
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.faithfulness import Predict
from pipeline.models.build import Classifier


@contextmanager
def scoring(classifier: Classifier, precision: str, temperature: float = 1.0) -> Iterator[Predict]:
    """Softmax probabilities in fp32; afterwards, and after an exception, the model is as it was.

    Args:
        temperature: divides the logits, see `pipeline.metrics.calibration`.

    bf16 keeps weights and sums of residuals in fp32 (autocast): on a CPU that was faster than weights in bf16, and it
    is closer to fp32.
    """
    device = classifier.mean.device

    def logits(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        with torch.inference_mode(), autocast(device, precision):
            return classifier(images)

    with _set_up(classifier):
        yield calibrated(logits, temperature)


@contextmanager
def _set_up(classifier: Classifier) -> Iterator[None]:
    """Evaluation mode; fused attention everywhere, which timm leaves off in Swin."""
    flags = [
        (module, name) for module in classifier.modules() for name in ("training", "fused_attn") if _has(module, name)
    ]
    before = [getattr(module, name) for module, name in flags]
    try:
        for module, name in flags:
            setattr(module, name, name == "fused_attn")
        yield
    finally:
        for (module, name), value in zip(flags, before, strict=True):
            setattr(module, name, value)


def _has(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), bool)
