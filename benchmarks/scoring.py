"""Deletion curves: our batched engine beside RISE's published loops and the bare forward pass.

Run by hand, on an otherwise idle machine:
    python -m benchmarks.scoring                        # the embedded study's ViT, 64 px, two CPU threads
    python -m benchmarks.scoring --device cuda --arch vit_base_patch16_224 --size 224 --steps 224 --batch 256
RISE's two loops (evaluation.py, MIT licence) are written out with its 224 px and `.cuda()` taken away. `single_run`
asks for one image at a time, `evaluate` for a batch of images at each step and moves the pixels through NumPy. The
figure is perturbed images per second, best of the rounds; the ratio is against the bare forward pass at the same batch.
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pipeline.metrics.faithfulness import perturbation_curves, pixel_counts, saliency_ranks, see
from pipeline.models.build import build_classifier

TINY = '{"patch_size": 8, "embed_dim": 96, "depth": 4, "num_heads": 3}'
Model = Callable[[Tensor], Tensor]


def rise_single_run(
    model: Model, images: Tensor, saliency: np.ndarray, targets: Tensor, step: int, _: int
) -> np.ndarray:
    return np.stack(
        [_rise_one(model, images[i : i + 1], saliency[i], int(targets[i]), step) for i in range(len(images))]
    )


def _rise_one(model: Model, image: Tensor, saliency: np.ndarray, target: int, step: int) -> np.ndarray:
    pixels = saliency.size
    num_steps = (pixels + step - 1) // step
    start, finish = image.cpu().clone(), torch.zeros_like(image).cpu()
    order = np.flip(np.argsort(saliency.reshape(-1, pixels), axis=1), axis=-1)
    scores = np.empty(num_steps + 1)
    for i in range(num_steps + 1):
        scores[i] = model(start.to(image.device))[0, target].item()
        if i < num_steps:
            coordinates = order[:, step * i : step * (i + 1)]
            start.numpy().reshape(1, 3, pixels)[0, :, coordinates] = finish.numpy().reshape(1, 3, pixels)[
                0, :, coordinates
            ]
    return scores


def rise_evaluate(
    model: Model, images: Tensor, saliency: np.ndarray, targets: Tensor, step: int, batch: int
) -> np.ndarray:
    count, pixels = len(images), saliency[0].size
    num_steps = (pixels + step - 1) // step
    start, finish = images.cpu().clone(), torch.zeros_like(images).cpu()
    order = np.flip(np.argsort(saliency.reshape(-1, pixels), axis=1), axis=-1)
    every, top = np.arange(count).reshape(count, 1), targets.cpu().numpy()
    scores = np.empty((num_steps + 1, count))
    for i in range(num_steps + 1):
        parts = [model(part.to(images.device)).cpu().numpy() for part in start.split(batch)]
        scores[i] = np.concatenate(parts)[np.arange(count), top]
        coordinates = order[:, step * i : step * (i + 1)]
        start.numpy().reshape(count, 3, pixels)[every, :, coordinates] = finish.numpy().reshape(count, 3, pixels)[
            every, :, coordinates
        ]
    return scores.T


def ours(model: Model, images: Tensor, saliency: np.ndarray, targets: Tensor, step: int, batch: int) -> np.ndarray:
    full, black = see(model, images, batch), see(model, torch.zeros_like(images), batch)
    ranks = saliency_ranks(torch.from_numpy(saliency).to(images.device))
    steps = -(-saliency[0].size // step)
    return perturbation_curves(model, full, black, ranks, targets, steps, batch).cpu().numpy()


def best_seconds(ways: dict[str, Callable[[], object]], device: str, rounds: int) -> dict[str, float]:
    """The best time of each way; they take turns, so that a busy moment of the machine meets them all."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: min(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arch", default="vit_tiny_patch16_224")
    parser.add_argument("--options", type=json.loads, default=None, help="JSON; the tiny ViT's by default")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.backends.cudnn.allow_tf32 = False
    options = args.options or (json.loads(TINY) if args.arch == "vit_tiny_patch16_224" else {})
    classifier = build_classifier(args.arch, options, "none", 8, args.size, 0).to(args.device).eval()
    compare(lambda images: classifier(images).softmax(1), args)


@torch.inference_mode()
def compare(model: Model, args: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(0)
    side, count = args.size, args.images
    images = torch.rand(count, 3, side, side, generator=generator).to(args.device)
    orders = [
        torch.randperm(side * side, generator=generator) for _ in range(count)
    ]  # no ties: RISE's sort is unstable
    saliency = torch.stack(orders).view(count, side, side).float().numpy()
    targets = torch.randint(8, (count,), generator=generator).to(args.device)
    points = len(pixel_counts(side * side, args.steps))
    world = (model, images, saliency, targets, -(-side * side // args.steps), args.batch)
    passes = -(-count * points // args.batch)
    batch = torch.rand(args.batch, 3, side, side, generator=generator).to(args.device)

    loops = {"RISE single_run": rise_single_run, "RISE evaluate": rise_evaluate, "ours": ours}
    curves = {name: loop(*world) for name, loop in loops.items()}  # warms up too
    ways = {name: lambda loop=loop: loop(*world) for name, loop in loops.items()}
    times = best_seconds(
        {"bare forward pass": lambda: [model(batch) for _ in range(passes)], **ways}, args.device, args.rounds
    )
    rates = {name: count * points / time_s for name, time_s in times.items()}
    rates["bare forward pass"] *= passes * args.batch / (count * points)

    print(f"{args.arch} {side} px, {args.device}, {count} images x {points} points, batches of {args.batch}")
    print(f"{'way':20}{'images/s':>10}{'of bare':>9}{'of single_run':>15}{'difference':>12}")
    for name, rate in rates.items():
        difference = np.abs(curves[name] - curves["RISE single_run"]).max() if name in curves else 0
        of_bare, of_single = rate / rates["bare forward pass"], rate / rates["RISE single_run"]
        print(f"{name:20}{rate:10.0f}{of_bare:9.2f}{of_single:15.2f}{difference:12.1e}")


if __name__ == "__main__":
    main()
