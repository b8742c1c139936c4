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

from pipeline.metrics.faithfulness import perturbation_curves, pixel_counts, saliency_ranks, see, upsampled
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


def seconds(function: Callable[[], object], device: str, rounds: int) -> float:
    """The best of some rounds, after one to warm up."""
    times = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        function()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


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
    images = torch.rand(args.images, 3, args.size, args.size, generator=generator).to(args.device)
    saliency = upsampled(torch.rand(args.images, 8, 8, generator=generator), (args.size, args.size)).numpy()
    targets = torch.randint(8, (args.images,), generator=generator).to(args.device)
    points = len(pixel_counts(args.size**2, args.steps))
    step = -(-(args.size**2) // args.steps)
    world = (model, images, saliency, targets, step, args.batch)
    work = args.images * points

    batch = torch.rand(args.batch, 3, args.size, args.size).to(args.device)
    passes = -(-work // args.batch)
    bare = passes * args.batch / seconds(lambda: [model(batch) for _ in range(passes)], args.device, args.rounds)
    reference = rise_evaluate(*world)
    print(f"{args.arch} {args.size} px, {args.device}, {args.images} images x {points} points, batches of {args.batch}")
    print(f"{'way':24}{'images/s':>10}{'of bare':>9}{'largest difference':>20}")
    print(f"{'bare forward pass':24}{bare:10.0f}{1:9.2f}")
    for name, way in {"RISE single_run": rise_single_run, "RISE evaluate": rise_evaluate, "ours": ours}.items():
        rate = work / seconds(lambda way=way: way(*world), args.device, 1 if way is rise_single_run else args.rounds)
        print(f"{name:24}{rate:10.0f}{rate / bare:9.2f}{np.abs(way(*world) - reference).max():20.1e}")


if __name__ == "__main__":
    main()
