"""Insertion and deletion beside RISE's loop, Quantus and torchcam, and beside the machine's own matrix products."""

from contextlib import nullcontext
from functools import partial

import quantus
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchcam.metrics import DeletionInsertionMetric

from benchmarks.models import classifier_of, draw_images, draw_maps
from benchmarks.rise import rise_evaluate
from benchmarks.timing import Figure, medians, speed
from pipeline.device import autocast
from pipeline.metrics import InsertionDeletion, insertion_deletion
from pipeline.metrics.adaptive import fixed_curves
from pipeline.metrics.faithfulness import Course, exchanged, saliency_ranks, see
from pipeline.metrics.prediction import scoring
from pipeline.metrics.substrates import blur
from pipeline.models.build import Classifier

CPU = torch.device("cpu")
TINY = {"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}  # the embedded study's ViT
TINY_SIDE_PX = 64


def against_rise(arch: str, images: int, steps: int, precision: str) -> list[Figure]:
    """The fixed protocol and the adaptive one against the same loop, and the throughput beside matrix products."""
    classifier, pictures, maps = classifier_of(arch), draw_images(images), draw_maps(images)
    results: dict[str, InsertionDeletion] = {}

    def run(kind: int | str) -> None:
        results[str(kind)] = insertion_deletion(classifier, pictures, maps, steps=kind, precision=precision)

    ways = {
        "fixed": lambda: run(steps),
        "rise": lambda: rise_both(classifier, pictures, maps, steps),
        "adaptive": lambda: run("adaptive"),
    }
    times = medians(ways, 1)
    about = f"{arch}, {images} images, {steps} steps, {results[str(steps)].settings.precision}"
    fixed = speed(f"insertion and deletion, {about}", "RISE's loop", 2.5, times["fixed"], times["rise"])
    passes = results["adaptive"].passes / images
    name = f"insertion and deletion, adaptive ({passes:.0f} passes an image), {about}"
    adaptive = speed(name, f"RISE's loop, {steps} steps", 15, times["adaptive"], times["rise"])
    return [fixed, adaptive, _throughput(classifier, results[str(steps)], times["fixed"], about)]


def rise_both(classifier: Classifier, images: Tensor, maps: Tensor, steps: int) -> None:
    targets = classifier(images).argmax(1)
    rise_evaluate(classifier, blur(images), images, maps.numpy(), targets, steps)
    rise_evaluate(classifier, images, torch.zeros_like(images), maps.numpy(), targets, steps)


def _throughput(classifier: Classifier, result: InsertionDeletion, seconds: float, about: str) -> Figure:
    ours = flops_of(classifier) * result.passes / seconds
    machine = matmul_rate(result.settings.precision)
    sizes = (f"{ours / 1e9:.0f} GFLOP/s", f"{machine / 1e9:.0f} GFLOP/s")
    return Figure(f"scoring throughput, {about}", "the machine's matrix products", ours / machine, 0.55, *sizes)


def flops_of(classifier: Classifier) -> int:
    """Of one image; the counter knows no fused attention on a CPU."""
    for module in classifier.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        classifier(draw_images(1))
    return counter.get_total_flops()


def matmul_rate(precision: str, rows: int = 1576, width: int = 768, wide: int = 3072) -> float:
    """FLOP/s of the product that a ViT-B spends most of its time in, for eight images."""
    linear, tokens = torch.nn.Linear(width, wide), torch.randn(rows, width)

    def product() -> None:
        with torch.inference_mode(), autocast(CPU, precision):
            linear(tokens)

    return 2 * rows * width * wide / medians({"product": product}, 15)["product"]


def against_torchcam(arch: str, images: int, steps: int, rounds: int) -> Figure:
    """Both start from zeros; torchcam's default batch."""
    classifier, pictures, maps = classifier_of(arch), draw_images(images), draw_maps(images)
    extractor = GivenMaps(classifier, maps)

    def theirs() -> None:
        metric = DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=steps)
        metric.update(pictures)

    def ours() -> None:
        insertion_deletion(classifier, pictures, maps, steps=steps, substrates=("zero", "zero"))

    times = medians({"ours": ours, "theirs": theirs}, rounds)
    return speed(f"insertion and deletion, {arch}, {images} images, {steps} steps", "torchcam", 2, *times.values())


class GivenMaps:
    """What torchcam's metric asks of an extractor, answered with maps that exist."""

    def __init__(self, model: Classifier, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, *_: object, **__: object) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> nullcontext[None]:
        return nullcontext()


def against_quantus(images: int, steps: int, rounds: int) -> Figure:
    """Pixel flipping to black on the embedded study's ViT; Quantus flips channels one by one, three for a pixel."""
    classifier = classifier_of("vit_tiny_patch16_224", TINY, TINY_SIDE_PX)
    pictures, maps = draw_images(images, TINY_SIDE_PX), draw_maps(images, TINY_SIDE_PX)
    labels = classifier(pictures).argmax(1)
    metric = quantus.PixelFlipping(
        features_in_step=3 * TINY_SIDE_PX**2 // steps,
        disable_warnings=True,
    )
    given = {"x_batch": pictures.numpy(), "y_batch": labels.numpy(), "a_batch": maps[:, None].numpy()}
    ways = {
        "ours": lambda: pixel_flipping(classifier, pictures, maps, labels, steps),
        "theirs": lambda: metric(model=classifier, softmax=True, device="cpu", **given),
    }
    times = medians(ways, rounds)
    return speed(f"pixel flipping, ViT at 64 px, {images} images, {steps} steps", "Quantus", 4, *times.values())


def pixel_flipping(classifier: Classifier, images: Tensor, maps: Tensor, targets: Tensor, steps: int) -> None:
    with scoring(classifier, "fp32") as predict:
        black = torch.zeros_like(images)
        ends = [see(predict, pixels, 32) for pixels in (images, black)]
        fixed_curves(predict, Course(*ends, exchanged(images, black), saliency_ranks(maps), targets), steps, 32)
