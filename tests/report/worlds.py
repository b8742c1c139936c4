"""Tables of evidence made by hand: every image's values are what the test says."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

MODELS, METHODS = ("vit", "dino", "swin"), ("gradcam", "gradient_rollout")
COLUMNS = ("insertion_gain", "deletion_gain", "pointing_game", "mass_ratio", "gini", "shared_variance")
CHANCE = 0.1

Values = Mapping[tuple[str, str], Mapping[str, float]]  # (model, method) -> column -> mean


def made_evidence(
    values: Values, images: int = 30, seeds: Sequence[int] = (0,), wrong: int = 0, spread: float = 0.05
) -> pd.DataFrame:
    """A busi on which every measure is 0 but those given; images spread around the mean, evenly and alike.

    Args:
        wrong: images, from the first, that every model gets wrong.
    """
    rows = np.arange(images)
    parts = []
    for seed in seeds:
        for model in MODELS:
            for method in METHODS:
                found = values.get((model, method), {})
                about = {"dataset": "busi", "model": model, "seed": seed, "method": method, "is_method": True}
                columns = {name: found.get(name, 0.0) + spread * _waves(rows, method) for name in COLUMNS}
                parts.append(pd.DataFrame({"row": rows, **about, **columns, "correct": rows >= wrong}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(target_rule="predicted", chance=CHANCE, label="benign", size="small")


def _waves(rows: np.ndarray, method: str) -> np.ndarray:
    """Values whose mean is 0, of another order for each method, so that differences have a spread too."""
    waves = np.linspace(-1, 1, len(rows))
    return waves if method == METHODS[0] else np.roll(waves, 7)
