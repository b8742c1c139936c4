"""Which images are one picture, or of one patient, and so must stay on one side of the split: links and groups."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64
from PIL import Image

from pipeline.data.preparing.duplicates import close_pairs, in_order_of_appearance, linked_groups
from pipeline.data.preparing.overlaps import find_overlaps
from pipeline.data.preparing.reading import Found, labels_of
from pipeline.params import DatasetParams
from pipeline.records import Dropped

LinkMethod = Literal["perceptual_hash", "overlap", "curated", "given_group"]
PICTURES = ("perceptual_hash", "overlap", "curated")  # methods that link pictures, not patients


@dataclass(frozen=True)
class Link:
    """Two images, by their position, and what makes them belong together."""

    first: int
    second: int
    method: LinkMethod
    value: float  # bits that differ | correlation in the overlap | 0


@dataclass(frozen=True)
class Likeness:
    links: tuple[Link, ...]
    groups: Int64[np.ndarray, " n"]  # of each image, from 0 in order of appearance

    def among(self, kept: Bool[np.ndarray, " n"]) -> "Likeness":
        """The same for the kept images alone, at their new positions."""
        place = np.cumsum(kept) - 1
        links = [
            replace(link, first=int(place[link.first]), second=int(place[link.second]))
            for link in self.links
            if kept[link.first] and kept[link.second]
        ]
        return Likeness(tuple(links), in_order_of_appearance(self.groups[kept]))


def find_likeness(
    found: Sequence[Found],
    params: DatasetParams,
    keys: Mapping[LinkMethod, Mapping[str, frozenset[str]]],
    open_image: Callable[[int], Image.Image],
) -> Likeness:
    """All links between the images.

    Args:
        keys: method -> file -> what it shares with other files: groups of a curated list, or of the set's own table.
        open_image: the image at a position, at full size, to look at an overlap more closely.
    """
    links = [*_by_hash(found, params.duplicate_distance), *_by_overlap(found, params.overlap_correlation, open_image)]
    for method, keys_of in keys.items():
        links += _by_key([keys_of.get(one.image.file, frozenset()) for one in found], method)
    return Likeness(tuple(links), linked_groups(len(found), ((link.first, link.second) for link in links)))


def _by_hash(found: Sequence[Found], distance: int) -> Iterator[Link]:
    hashes = np.array([one.reading.perceptual_hash for one in found], dtype=np.uint64)
    for first, second, bits in close_pairs(hashes, distance).tolist():
        yield Link(first, second, "perceptual_hash", float(bits))


def _by_overlap(
    found: Sequence[Found], correlation: float | None, open_image: Callable[[int], Image.Image]
) -> Iterator[Link]:
    if correlation is None:
        return
    for overlap in find_overlaps([one.reading.features for one in found], open_image, correlation):
        yield Link(overlap.first, overlap.second, "overlap", overlap.correlation)


def _by_key(keys: Sequence[frozenset[str]], method: LinkMethod) -> Iterator[Link]:
    """A link from each image to the first of each of its keys."""
    first: dict[str, int] = {}
    for position, own in enumerate(keys):
        for key in sorted(own):
            if first.setdefault(key, position) != position:
                yield Link(first[key], position, method, 0.0)


def picture_groups(found: Sequence[Found], links: Iterable[Link]) -> list[list[Found]]:
    """Images that show one picture, in groups of two or more; images of one patient need not look alike."""
    pictures = [(link.first, link.second) for link in links if link.method in PICTURES]
    members: dict[int, list[Found]] = {}
    for one, group in zip(found, linked_groups(len(found), pictures).tolist(), strict=True):
        members.setdefault(group, []).append(one)
    return [group for group in members.values() if len(group) > 1]


def across_labels(groups: Iterable[Sequence[Found]]) -> tuple[Dropped, ...]:
    """Images that look like one of another class."""
    mixed = [group for group in groups if len(labels_of(group)) > 1]
    return tuple(_as_look_alike(one, group) for group in mixed for one in group)


def _as_look_alike(one: Found, group: Iterable[Found]) -> Dropped:
    others = ", ".join(other.image.file for other in group if other.image.class_name != one.image.class_name)
    return Dropped(
        file=one.image.file, reason=f"looks like {others} of another class; kept on the same side of the split"
    )
