"""A classifier as the engine asks it: probabilities of images, in evaluation mode, fused, in the precision asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.device import autocast, resolve_precision
from pipeline.metrics.calibration import calibrated
from pipeline.metrics.faithfulness import Predict
from pipeline.models.build import Classifier


@contextmanager
def scoring(
    classifier: Classifier, precision: str, temperature: float = 1.0, compile_for: int | None = None
) -> Iterator[Predict]:
    """Softmax probabilities in fp32; afterwards, and after an exception, the model is as it was.

    Args:
        temperature: divides the logits, see `pipeline.metrics.calibration`.
        compile_for: images at a time for which torch.compile prepares the model; None runs it as it is.

    bf16 keeps weights and sums of residuals in fp32 (autocast): on a CPU that was faster than weights in bf16, and it
    is closer to fp32.
    """
    device = classifier.mean.device
    run = classifier if compile_for is None else _compiled(classifier, compile_for)

    def logits(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        with torch.inference_mode(), autocast(device, precision):
            return run(images)

    # PyTorch's fused kernel for CPUs takes bf16 at the pace of fp32: twice as long as the products one by one.
    slow_fused = device.type == "cpu" and resolve_precision(device, precision) == "bf16"
    with _set_up(classifier, fused=not slow_fused):
        try:
            yield calibrated(logits, temperature)
        finally:
            if compile_for is not None:
                torch.compiler.reset()  # what was compiled holds these weights, and they may be trained on


def _compiled(classifier: Classifier, size: int) -> Callable[[Tensor], Tensor]:
    """The model compiled for batches of `size`; smaller ones are filled up, since every other size would compile anew.

    On a CPU weights are packed for its products ("freezing"); on a GPU a batch is one CUDA graph.
    """
    on_gpu = classifier.mean.device.type == "cuda"
    compiled = torch.compile(classifier.backbone, options={"triton.cudagraphs": True} if on_gpu else {"freezing": True})

    def run(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n classes"]:
        filled = F.pad(images, (0, 0, 0, 0, 0, 0, 0, size - len(images)))
        return compiled(classifier.normalise(filled))[
            : len(images)
        ].clone()  # a CUDA graph's output is overwritten by its next run

    return run


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
