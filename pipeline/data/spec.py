"""What the study knows of an image set before it has seen a file of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

Trait = Callable[[Image.Image], str]  # of an RGB image at full size: the level of a trait that it has


@dataclass(frozen=True)
class DatasetSpec:
    name: str
    title: str
    classes: tuple[str, ...]  # in the order of the labels 0, 1, ...; each is the name of a folder
    flips: tuple[Literal["horizontal", "vertical"], ...]  # that leave an image plausible
    colour: bool  # whether colour carries meaning; if not, hue is never touched
    evidence: str  # what a mask outlines
    without_evidence: tuple[str, ...]  # classes whose masks are empty by right
    licence: str
    citation: str
    doi: str  # of the data where they have one, else of the article
    source_url: str  # the page to download the set from
    labelled: bool = True  # if not, every image counts to the one class, whatever folder it lies in
    # by name; functions of a module, so that another process finds them
    traits: Mapping[str, Trait] = field(default_factory=dict, hash=False)
