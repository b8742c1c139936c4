"""A classifier as the engine asks it: probabilities of images, in evaluation mode, fused, in the precision asked."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.device import autocast, resolve_precision
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.faithfulness import Predict
from pipeline.models.build import Classifier


@contextmanager
def scoring(classifier: Classifier, precision: str, temperature: float = 1.0) -> Iterator[Predict]:
    """Softmax probabilities in fp32; afterwards, and after an exception, the model is as it was.

    Args:
        temperature: divides the logits, see `pipeline.metrics.calibration`.

    torch.compile is left out: on a CPU it gained 15 % at best and lost more to the batches of one size that it wants.
    bf16 keeps weights and sums of residuals in fp32 (autocast): on a CPU that was faster than weights in bf16, and it
    is closer to fp32.
    """
    device = classifier.mean.device

    def logits(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        with torch.inference_mode(), autocast(device, precision):
            return classifier(images)

    # PyTorch's fused kernel for CPUs takes bf16 at the pace of fp32: twice as long as the products one by one.
    slow_fused = device.type == "cpu" and resolve_precision(device, precision) == "bf16"
    with _set_up(classifier, fused=not slow_fused):
        yield calibrated(logits, temperature)


@contextmanager
def _set_up(classifier: Classifier, fused: bool) -> Iterator[None]:
    """Evaluation mode; attention alike everywhere, since timm fuses a ViT's and not a Swin's."""
    flags = [
        (module, name) for module in classifier.modules() for name in ("training", "fused_attn") if _has(module, name)
    ]
    before = [getattr(module, name) for module, name in flags]
    try:
        for module, name in flags:
            setattr(module, name, fused if name == "fused_attn" else False)
        yield
    finally:
        for (module, name), value in zip(flags, before, strict=True):
            setattr(module, name, value)


def _has(module: nn.Module, name: str) -> bool:
    return isinstance(getattr(module, name, None), bool)
