"""Fine-tuning beside timm's own recipe: the same model, images, batch and precision, one process each.

Run by hand, on an otherwise idle machine:
    python -m benchmarks.finetuning > benchmarks/FINETUNING.md
    python -m benchmarks.finetuning --quick    # a quick look at the small model
timm's side is what its train.py calls, in its order: create_loader with the prefetcher, create_optimizer_v2,
create_scheduler_v2, LabelSmoothingCrossEntropy, and forward, loss, backward, clip, step.
"""

import argparse
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.timing import machine, medians
from pipeline.data.augment import Augmenter
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.device import autocast, resolve_device
from pipeline.models.build import build_classifier
from pipeline.models.weights import FROM_SCRATCH
from pipeline.params import FinetuneParams, load_params
from pipeline.training.batches import Batch, labels_of
from pipeline.training.finetuning import FineTuning, build_criterion
from pipeline.training.loop import Trainer, build_optimizer, train_epoch
from pipeline.training.processes import Processes
from tests import prepared as worlds

# After ours, which declare what this torchvision lacks.
import timm  # isort: skip
from timm.data import create_loader  # isort: skip
from timm.loss import LabelSmoothingCrossEntropy  # isort: skip
from timm.optim import create_optimizer_v2  # isort: skip
from timm.scheduler import create_scheduler_v2  # isort: skip
from timm.utils import dispatch_clip_grad  # isort: skip

SIDE_PX, CLASSES, LEARNING_RATE = 224, 3, 1e-4
EPOCHS = 100  # more than are run
SMALL, LARGE = "deit_tiny_patch16_224", "vit_base_patch16_224"
HEAD = """# Fine-tuning beside timm's recipe

Measured by `python -m benchmarks.finetuning{options}` on: {machine}; torch {torch}, timm {timm}, \
albumentations {albumentations}.

One epoch of {batches} batches of {batch} images of 224 px, {workers} processes that load on either side; median of
{rounds}, rivals in turns. "Ready" is the loop alone, its batches made before. "Loaded" makes them too: ours reads the
prepared pixels and augments with albumentations by params/paper.yaml; timm's recipe is handed the same pixels as PIL
images and does its default (random resized crop, flip, colour jitter) with its prefetcher. timm's folder dataset would
decode JPEG files besides, which ours did once in `preprocess`. Ours also averages the loss over every batch, for
history.csv.

| model | precision | batches | ours, images/s | timm, images/s | ratio |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Rivalry:
    data: Prepared
    params: FinetuneParams
    arch: str
    device: torch.device

    @property
    def batches(self) -> int:
        return len(self.data.rows("train")) // self.params.batch_size

    def lines(self, rounds: int) -> Iterator[str]:
        images, ours, theirs = self.batches * self.params.batch_size, Ours(self), Theirs(self)
        ready_ours, ready_theirs = list(ours.load()), list(theirs.load())
        spent: dict[str, float] = {}
        for kind, own, other in (
            ("ready", lambda: iter(ready_ours), lambda: ready_theirs), ("loaded", ours.load, theirs.load)
        ):  # fmt: skip
            ways = {"ours": partial(_run, ours.train, own), "timm": partial(_run, theirs.train, other)}
            medians(ways, 1)  # to warm up
            times = medians(ways, rounds)
            spent[kind] = times["ours"]
            speeds = {name: images / seconds for name, seconds in times.items()}
            cells = (self.arch, self.params.precision, kind, *(f"{speed:.2f}" for speed in speeds.values()))
            yield f"| {' | '.join(cells)} | {speeds['ours'] / speeds['timm']:.2f} |"
        if self.device.type == "cuda":
            yield f"\nThe GPU was busy for {spent['ready'] / spent['loaded']:.0%} of the time (ready / loaded).\n"


def _run(train: Any, load: Any) -> None:
    train(load())


class Ours:
    def __init__(self, rivalry: Rivalry) -> None:
        data, params, device = rivalry.data, rivalry.params, rivalry.device
        model = build_classifier(rivalry.arch, {}, FROM_SCRATCH, CLASSES, SIDE_PX, 0).to(device)
        criterion, augmenter = build_criterion(data, params).to(device), Augmenter(params.augmentation, data.about, 0)
        tuning = FineTuning(model, model, criterion, data, augmenter, params, 0, device, Processes())
        optimizer = build_optimizer(model, LEARNING_RATE, params.weight_decay)
        self.trainer = Trainer(tuning, optimizer, params, LEARNING_RATE, rivalry.batches, 0, device)
        training = data.rows("train")
        # One loader for all epochs, as in `fit`, whose batches to measure by are left out.
        stream = tuning.batches(range(1, EPOCHS))
        self.learned_from = (batch for batch in stream if np.isin(batch.rows, training).all())

    def load(self) -> Iterator[Batch]:
        return islice(self.learned_from, self.trainer.steps_per_epoch)

    def train(self, batches: Iterator[Batch]) -> None:
        train_epoch(self.trainer, 1, batches, lambda done: None)


class Theirs:
    def __init__(self, rivalry: Rivalry) -> None:
        self.params, self.device, params = rivalry.params, rivalry.device, rivalry.params
        self.model = timm.create_model(rivalry.arch, num_classes=CLASSES).to(rivalry.device)
        self.optimizer = create_optimizer_v2(self.model, "adamw", lr=LEARNING_RATE, weight_decay=params.weight_decay)
        self.scheduler, _ = create_scheduler_v2(
            self.optimizer,
            sched="cosine",
            num_epochs=params.epochs,
            warmup_epochs=params.warmup_epochs,
            updates_per_epoch=rivalry.batches,
            step_on_epochs=False,
        )
        self.loss = LabelSmoothingCrossEntropy(params.label_smoothing)
        self.loader = create_loader(
            Pictures(rivalry.data),
            (3, SIDE_PX, SIDE_PX),
            params.batch_size,
            is_training=True,
            num_workers=params.workers,
            device=rivalry.device,
            use_prefetcher=True,
            persistent_workers=params.workers > 0,
        )

    def load(self) -> Iterable[tuple[Tensor, Tensor]]:
        return self.loader

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        self.model.train()
        for update, (images, labels) in enumerate(batches, start=1):
            with autocast(self.device, self.params.precision):
                loss = self.loss(self.model(images), labels)
            self.optimizer.zero_grad()
            loss.backward()
            dispatch_clip_grad(self.model.parameters(), self.params.gradient_clip)
            self.optimizer.step()
            self.scheduler.step_update(update)


class Pictures(Dataset[tuple[Image.Image, int]]):
    """The training images as timm's transforms take them."""

    def __init__(self, data: Prepared) -> None:
        self.data, self.rows, self.transform = data, data.rows("train"), None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> tuple[Image.Image, int]:
        row = self.rows[position : position + 1]
        image = Image.fromarray(self.data.pixels(row)[0])
        return (self.transform(image) if self.transform else image), int(labels_of(self.data, row)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small model, one round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--batches", type=int, default=3, help="of an epoch")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rounds, cases = (1, [(SMALL, "fp32")]) if args.quick else (3, [(SMALL, "fp32"), (LARGE, "fp32"), (LARGE, "bf16")])
    options = f"{' --quick' * args.quick} --workers {args.workers} --batch {args.batch} --batches {args.batches}"
    versions = {name: version(name) for name in ("torch", "timm", "albumentations")}
    about = {"batches": args.batches, "batch": args.batch, "workers": args.workers, "rounds": rounds}
    print(HEAD.format(options=options, machine=machine(), **versions, **about), flush=True)
    finetune = load_params(Path("params/paper.yaml")).finetune
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(worlds, "SIDE_PX", SIDE_PX):
        images = args.batch * args.batches
        spec = replace(worlds.SPEC, name="colours")
        data = load_prepared(worlds.write_prepared(Path(folder) / "set", train=(images - 2, 1, 1), spec=spec))
        for arch, precision in cases:
            changes = {"batch_size": args.batch, "workers": args.workers, "precision": precision}
            rivalry = Rivalry(data, finetune.model_copy(update=changes), arch, resolve_device("auto"))
            for line in rivalry.lines(rounds):
                print(line, flush=True)
    if not torch.cuda.is_available():
        print(
            "\nHow busy a GPU is kept (aim: over 85 % on ViT-B) was not measured: no GPU here. With one, it is printed."
        )


if __name__ == "__main__":
    main()
