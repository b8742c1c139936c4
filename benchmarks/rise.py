"""RISE's published loop for insertion and deletion, plain: one fp32 batch of all images at each step.

`CausalMetric.evaluate` of evaluation.py (MIT licence, Petsiuk et al. 2018), with its 224 px and `.cuda()` taken away.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]


def rise_evaluate(
    model: Model, start: Tensor, finish: Tensor, saliency: np.ndarray, targets: Tensor, steps: int
) -> np.ndarray:
    """Curves [n, points] while `start` turns into `finish`."""
    count, pixels = len(start), saliency[0].size
    step = -(-pixels // steps)
    num_steps = -(-pixels // step)
    picture, end = start.cpu().clone(), finish.cpu()
    order = np.flip(np.argsort(saliency.reshape(-1, pixels), axis=1), axis=-1)
    every, top = np.arange(count).reshape(count, 1), targets.cpu().numpy()
    scores = np.empty((num_steps + 1, count))
    for i in range(num_steps + 1):
        with torch.no_grad():
            scores[i] = model(picture.to(start.device)).softmax(dim=1).cpu().numpy()[np.arange(count), top]
        places = order[:, step * i : step * (i + 1)]
        picture.numpy().reshape(count, 3, pixels)[every, :, places] = end.numpy().reshape(count, 3, pixels)[
            every, :, places
        ]
    return scores.T
