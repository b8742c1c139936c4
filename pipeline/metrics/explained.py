"""What a cell's attributions.npz holds, checked, by target rule."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from pipeline.errors import StudyError
from pipeline.records import TargetRule, random_twin

RULES: tuple[TargetRule, ...] = ("predicted", "true")
Maps = dict[str, Float32[np.ndarray, "n _ _"]]


@dataclass(frozen=True)
class Explained:
    """The images explained for one target rule: rows of the prepared set, the classes explained, maps by method."""

    rule: TargetRule
    rows: Int64[np.ndarray, " n"]
    targets: Int64[np.ndarray, " n"]
    maps: Maps


def load_explained(path: Path) -> list[Explained]:
    """A rule without images is left out.

    Raises:
        StudyError: a map is not finite, or has no random map of its grid to be compared with.
    """
    with np.load(path) as held:
        arrays = {name: held[name] for name in held.files}
    found = []
    for rule in RULES:
        maps = {name.removesuffix(f"/{rule}"): arrays[name] for name in arrays if name.endswith(f"/{rule}")}
        _check_maps(maps, path)
        if len(rows := arrays[f"rows_{rule}"]):
            found.append(Explained(rule, rows, arrays[f"targets_{rule}"], maps))
    return found


def grid_text(maps: Float32[np.ndarray, "n h w"]) -> str:
    return f"{maps.shape[1]}x{maps.shape[2]}"


def _check_maps(maps: Maps, path: Path) -> None:
    for method, values in maps.items():
        if not np.isfinite(values).all():
            raise StudyError(f"{path}: maps of {method} are not finite; run `dvc repro -f` to make them anew")
        twin = random_twin(grid_text(values), grid_text(maps["random"])) if "random" in maps else "random"
        if twin not in maps:
            raise StudyError(f"{path}: no maps of {twin} to compare {method} with; run `dvc repro -f` to make them")
