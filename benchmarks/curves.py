"""Insertion and deletion beside RISE's loop, Quantus and torchcam, and beside the machine's own matrix products.

The peers get a model of their own, as timm builds it, in fp32; the engine runs in the precision that the table names.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import quantus
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchcam.metrics import DeletionInsertionMetric

from benchmarks.models import SIDE_PX, classifier_of, draw_images, draw_maps
from benchmarks.rise import rise_evaluate
from benchmarks.timing import Figure, medians, speed
from pipeline.device import autocast
from pipeline.metrics.adaptive import Curves
from pipeline.metrics.engine import ADAPTIVE, Engine, Protocol, Scene, Scorer, Steps, curves_of, scene_of, scorer_of
from pipeline.metrics.faithfulness import Course, even_curves, exchanged, saliency_ranks
from pipeline.metrics.substrates import blur
from pipeline.models.build import Classifier

CPU = torch.device("cpu")
RISE = Protocol(
    steps=224, insertion_substrate="blur", deletion_substrate="zero", unit_px=1, order="most_relevant_first"
)


@dataclass(frozen=True)
class Ours:
    """Our engine, ready to run."""

    scorer: Scorer
    pictures: Tensor
    maps: Tensor
    targets: Tensor

    def curves(self, **changes: Steps | str) -> dict[str, Curves]:
        scorer = replace(self.scorer, protocol=replace(self.scorer.protocol, **changes))
        return curves_of(scorer, self.scene(scorer), self.maps)

    def scene(self, scorer: Scorer) -> Scene:
        return scene_of(scorer, self.pictures, self.targets)


@contextmanager
def our_engine(arch: str, images: int, precision: str) -> Iterator[Ours]:
    classifier, pictures, maps = classifier_of(arch), draw_images(images), draw_maps(images)
    with torch.inference_mode():
        targets = classifier(pictures).argmax(1).clone()
    with scorer_of(classifier, RISE, Engine(precision, 1.0, "auto"), pictures[:1]) as scorer:
        scorer.predict(pictures[:1])
        yield Ours(scorer, pictures, maps, targets)


def against_rise(arch: str, images: int, steps: int, precision: str) -> Iterator[Figure]:
    """The fixed protocol and the adaptive one against the same loop, and the throughput beside matrix products."""
    peer, pictures, maps = classifier_of(arch), draw_images(images), draw_maps(images)
    (rise_s,) = medians({"rise": lambda: rise_both(peer, pictures, maps, steps)}, 1).values()
    with our_engine(arch, images, precision) as ours:
        fixed, adaptive = (timed(ours, kind) for kind in (steps, ADAPTIVE))
    about = f"{arch}, {images} images, {steps} steps, {precision}"
    yield speed(f"insertion and deletion, {about}", "RISE's loop", 2.5, fixed.seconds, rise_s)
    name = f"insertion and deletion, adaptive ({adaptive.passes / images:.0f} passes an image), {about}"
    yield speed(name, f"RISE's loop, {steps} steps", 15, adaptive.seconds, rise_s)
    rate, machine = flops_of(classifier_of(arch)) * fixed.passes / fixed.seconds, matmul_rate(precision)
    sizes = (f"{rate / 1e9:.0f} GFLOP/s", f"{machine / 1e9:.0f} GFLOP/s")
    yield Figure(f"scoring throughput, {about}", "the machine's matrix products", rate / machine, 0.55, *sizes)


@dataclass(frozen=True)
class Timed:
    seconds: float
    passes: int


def timed(ours: Ours, steps: Steps) -> Timed:
    found: dict[str, Curves] = {}
    (seconds,) = medians({"ours": lambda: found.update(ours.curves(steps=steps))}, 1).values()
    # Both ends of both curves, of which the image is asked once.
    return Timed(seconds, sum(int(curves.passes.sum()) for curves in found.values()) - len(ours.pictures))


def rise_both(classifier: Classifier, images: Tensor, maps: Tensor, steps: int) -> None:
    targets = classifier(images).argmax(1)
    rise_evaluate(classifier, blur(images), images, maps.numpy(), targets, steps)
    rise_evaluate(classifier, images, torch.zeros_like(images), maps.numpy(), targets, steps)


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


def against_torchcam(arch: str, images: int, steps: int, rounds: int, precision: str) -> Figure:
    """Both start from zeros; torchcam's default batch."""
    peer, pictures = classifier_of(arch), draw_images(images)
    extractor = GivenMaps(peer, draw_maps(images))

    def theirs() -> None:
        metric = DeletionInsertionMetric(extractor, partial(torch.softmax, dim=-1), steps=steps)
        metric.update(pictures)

    with our_engine(arch, images, precision) as ours:
        ways = {"ours": lambda: ours.curves(steps=steps, insertion_substrate="zero"), "theirs": theirs}
        times = medians(ways, rounds)
    about = f"{arch}, {images} images, {steps} steps, {precision}"
    return speed(f"insertion and deletion, {about}", "torchcam, fp32", 2, *times.values())


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


def against_quantus(arch: str, images: int, steps: int, rounds: int, precision: str) -> Figure:
    """Pixel flipping to black; Quantus flips channels one by one, three for a pixel."""
    peer, pictures, maps = classifier_of(arch), draw_images(images), draw_maps(images)
    metric = quantus.PixelFlipping(features_in_step=3 * SIDE_PX**2 // steps, disable_warnings=True)
    with our_engine(arch, images, precision) as ours:
        given = {"x_batch": pictures.numpy(), "y_batch": ours.targets.numpy(), "a_batch": maps[:, None].numpy()}
        ways = {
            "ours": lambda: pixel_flipping(ours, steps),
            "theirs": lambda: metric(model=peer, softmax=True, device="cpu", **given),
        }
        times = medians(ways, rounds)
    about = f"{arch}, {images} images, {steps} steps, {precision}"
    return speed(f"pixel flipping, {about}", "Quantus, fp32", 4, *times.values())


def pixel_flipping(ours: Ours, steps: int) -> Tensor:
    """The deletion curve alone."""
    scorer, scene = ours.scorer, ours.scene(ours.scorer)
    image, black = scene.full, scene.substrates["zero"]
    course = Course(image, black, exchanged(image.pixels, black.pixels), saliency_ranks(ours.maps), ours.targets)
    return even_curves(scorer.predict, course, steps, scorer.batch_size)
