"""What the study knows of an image set before it has seen a file of it.

Plain data, so that it crosses stage borders: `audit.json` carries it on, with what was found, and whoever comes after
`preprocess` asks there, not in a table of known sets.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Layout:
    """Where a user's own set keeps what its class folders do not say."""

    table: str = ""  # name of a CSV file: a row per image, with any of the columns class, split, mask and the groups
    groups: str = ""  # that table's column of patients, or of whatever else must not be torn apart
    masks: str = ""  # name of a folder of masks, each called as its image
    curated: str = ""  # name of a CSV file of duplicates, objections, or images to keep


@dataclass(frozen=True)
class DatasetSpec:
    name: str  # its key in params.yaml
    title: str
    classes: tuple[str, ...]  # in the order of the labels 0, 1, ...; empty until an own set's folders are known
    flips: tuple[Literal["horizontal", "vertical"], ...]  # that leave an image plausible
    colour: bool  # whether colour carries meaning; if not, hue is never touched
    evidence: str  # what a mask outlines
    without_evidence: tuple[str, ...]  # classes whose masks are empty by right
    licence: str
    citation: str
    doi: str  # of the data where they have one, else of the article
    source_url: str  # the page to download the set from
    kind: str = ""  # which known set it is; empty for a user's own
    labelled: bool = True  # if not, every image counts to the one class, whatever folder it lies in
    traits: tuple[str, ...] = ()  # keys of `data.traits.TRAITS`
    layout: Layout = Layout()
