"""Augmentation of training images with albumentations, drawn anew for each (seed, epoch, row) and nothing else.

What an image becomes does not depend on the batch, the worker or the epochs before, so a resumed training sees the
same images. The centre stays the centre: cells and lesions are there.
"""

import random
from typing import Any

import albumentations as A
import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.params import AugmentationParams
from pipeline.records import PreparedSet
from pipeline.seeds import cell_seed

HUE_STEPS = 180  # of the colour circle in OpenCV's 8-bit HSV

# The share of images turned and recoloured. Half is enough to learn from, and at 64 px the turn costs more than all
# else together (110 of 200 us).
SHARE = 0.5


class Augmenter:
    """Draws and applies; `recipe` is albumentations' own serialised form, for the receipt."""

    def __init__(self, params: AugmentationParams, about: PreparedSet, seed: int) -> None:
        cv2.setNumThreads(0)  # images are too small to share out, and torch wants the cores
        self.transform = A.Compose(transforms(params, about))
        self.seed = seed

    def __call__(self, image: UInt8[np.ndarray, "s s 3"], epoch: int, row: int) -> UInt8[np.ndarray, "s s 3"]:
        draw = cell_seed(self.seed, "augment", epoch, row)
        # 16 us; `set_random_seed` makes two generators per transform instead of two in all, 80 us
        self.transform.set_random_state(np.random.default_rng(draw), random.Random(draw))
        return self.transform(image=image)["image"]

    @property
    def recipe(self) -> dict[str, Any]:
        return A.to_dict(self.transform)


def transforms(params: AugmentationParams, about: PreparedSet) -> list[A.BasicTransform]:
    """What the parameters ask for and the images of this set allow."""
    chosen: list[A.BasicTransform] = []
    if params.flip and "horizontal" in about.flips:
        chosen.append(A.HorizontalFlip(p=0.5))
    if params.flip and "vertical" in about.flips:
        chosen.append(A.VerticalFlip(p=0.5))
    if params.quarter_turns and {"horizontal", "vertical"} <= set(about.flips):
        chosen.append(A.RandomRotate90(p=0.5))
    if params.rotate_degrees or params.scale:
        chosen.append(
            A.Affine(
                rotate=(-params.rotate_degrees, params.rotate_degrees),
                scale=(1 - params.scale, 1 + params.scale),
                keep_ratio=True,
                border_mode=cv2.BORDER_REFLECT_101,
                p=SHARE,
            )
        )
    if params.brightness:
        chosen.append(A.RandomBrightnessContrast(params.brightness, params.brightness, p=1))
    if params.hue and about.colour:
        chosen.append(A.HueSaturationValue(round(params.hue * HUE_STEPS), 0, 0, p=SHARE))
    return chosen
