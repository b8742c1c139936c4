"""The views of multi-crop training: two large crops of an image and several small ones, each recoloured and blurred.

Drawn by albumentations, like all augmentation here, anew for each (seed, epoch, row, view). lightly's DINOTransform was
measured against this and left: it draws from the global generators, so a resumed training would see other views, and
its colours (hue by a tenth of the circle, solarisation) wipe out what tells one stained cell from another.
"""

import random
from dataclasses import dataclass

import albumentations as A
import cv2
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from pipeline.data.prepared import to_tensor
from pipeline.params import ViewParams
from pipeline.pretraining.corpus import Corpus
from pipeline.records import PreparedSet
from pipeline.seeds import cell_seed
from pipeline.training.batches import Wanted

GLOBAL_VIEWS = 2
ASPECT = (3 / 4, 4 / 3)  # width by height of a crop, before it becomes a square
RECOLOURED, BLURRED = 0.8, 0.3  # shares of the views


@dataclass(frozen=True)
class ViewBatch:
    rows: Int64[np.ndarray, " n"]
    global_views: Float[Tensor, "global_views 3 s s"]  # all images' first views, then all images' second
    local_views: Float[Tensor, "local_views 3 t t"]


class Cropper:
    """Draws the views of the images of one set."""

    def __init__(self, params: ViewParams, about: PreparedSet, image_size_px: int, seed: int) -> None:
        cv2.setNumThreads(0)  # as in the Augmenter
        self.large = A.Compose(transforms(params, about, image_size_px, params.global_scale))
        self.small = A.Compose(transforms(params, about, params.local_size_px, params.local_scale))
        self.local_views, self.seed = params.local_views, seed

    def __call__(
        self, image: UInt8[np.ndarray, "s s 3"], epoch: int, row: int
    ) -> tuple[list[UInt8[np.ndarray, "s s 3"]], list[UInt8[np.ndarray, "t t 3"]]]:
        """The global views and the local ones."""
        draw = cell_seed(self.seed, "views", epoch, row)
        numbers, coins = np.random.default_rng(draw), random.Random(draw)
        for transform in (self.large, self.small):
            transform.set_random_state(numbers, coins)
        large = [self.large(image=image)["image"] for _ in range(GLOBAL_VIEWS)]
        return large, [self.small(image=image)["image"] for _ in range(self.local_views)]


def transforms(
    params: ViewParams, about: PreparedSet, size_px: int, scale: tuple[float, float]
) -> list[A.BasicTransform]:
    """
    Args:
        scale: smallest and largest share of the image's area that a crop takes.
    """
    chosen: list[A.BasicTransform] = [A.RandomResizedCrop((size_px, size_px), scale=scale, ratio=ASPECT)]
    chosen += [A.HorizontalFlip(p=0.5)] if "horizontal" in about.flips else []
    chosen += [A.VerticalFlip(p=0.5)] if "vertical" in about.flips else []
    chosen += [A.RandomRotate90(p=0.5)] if {"horizontal", "vertical"} <= set(about.flips) else []
    saturation, hue = (params.saturation, params.hue) if about.colour else (0.0, 0.0)
    chosen.append(
        A.ColorJitter(
            brightness=_around_one(params.brightness),
            contrast=_around_one(params.brightness),
            saturation=_around_one(saturation),
            hue=(-hue, hue),
            p=RECOLOURED,
        )
    )
    chosen += [A.ToGray(p=params.grey)] if about.colour else []
    chosen.append(A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, params.blur_sigma_px), p=BLURRED))
    return chosen


def _around_one(fraction: float) -> tuple[float, float]:
    return 1 - fraction, 1 + fraction


@dataclass(frozen=True)
class MultiCropBatch:
    """Makes the views of a batch."""

    corpus: Corpus
    croppers: tuple[Cropper, ...]  # one for each set

    def __call__(self, wanted: Wanted) -> ViewBatch:
        rows, (numbers, _) = wanted.rows, self.corpus.place(wanted.rows)
        views = [
            self.croppers[number](self.corpus.image(int(row)), wanted.epoch, int(row))
            for number, row in zip(numbers, rows, strict=True)
        ]
        large, small = zip(*views, strict=True)
        return ViewBatch(rows, _by_view(large), _by_view(small))


def _by_view(views: tuple[list[np.ndarray], ...]) -> Float[Tensor, "views 3 s s"]:
    """From the views of each image to the images of each view."""
    if not views[0]:
        return torch.empty(0, 3, 0, 0)
    return to_tensor(np.stack([view for kind in zip(*views, strict=True) for view in kind]))
