"""Judge what was read of a set: what is dropped, what is worth a look, and which images are one picture."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int64

from pipeline.data.duplicates import near_duplicate_groups
from pipeline.data.index import ImageFile
from pipeline.data.reading import Reading
from pipeline.data.spec import DatasetSpec
from pipeline.errors import StudyError
from pipeline.records import Dropped

HUGE_MASK = 0.8  # of the image: rather inverted than a lesion
NAMED = 3  # files named in a refusal


@dataclass(frozen=True)
class Found:
    """An image file and what reading it gave."""

    image: ImageFile
    reading: Reading


@dataclass(frozen=True)
class Copies:
    """Images whose pixels are equal."""

    count: int  # files that are a copy of an earlier one
    conflicts: tuple[tuple[str, ...], ...]  # files of each picture that stands under two labels
    dropped: tuple[Dropped, ...]


@dataclass(frozen=True)
class NearDuplicates:
    groups: Int64[np.ndarray, " n"]  # of each image, from 0
    files: tuple[tuple[str, ...], ...]  # of each group of two or more
    flagged: tuple[Dropped, ...]  # those that look alike under two labels


def refuse_if_too_many_unusable(found: Sequence[Found], max_fraction: float, shown: str) -> None:
    """Raises StudyError, naming the first few, if more images than allowed are unreadable or have a refused mask."""
    faults = [fault for one in found if (fault := _first_fault(one))]
    if len(faults) <= max_fraction * len(found):
        return
    more = f"; and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
    raise StudyError(
        f"{shown}: {len(faults)} of {len(found)} images cannot be used as they are: {'; '.join(faults[:NAMED])}{more}; "
        f"mend or remove them, or raise preprocess.max_unreadable_fraction ({max_fraction:g})"
    )


def _first_fault(one: Found) -> str:
    if one.reading.problem:
        return f"{one.image.file}: {one.reading.problem}"
    return next((f"{mask.file}: {mask.reason}" for mask in one.reading.refused_masks), "")


def unreadable(found: Iterable[Found]) -> tuple[Dropped, ...]:
    """Images that cannot be read, and masks that cannot be used."""
    images = (
        Dropped(file=f.image.file, reason=f"cannot be read: {f.reading.problem}") for f in found if f.reading.problem
    )
    return (*images, *chain.from_iterable(one.reading.refused_masks for one in found))


def find_copies(found: Iterable[Found]) -> Copies:
    """Equal pictures: the first of a class is kept; under two labels none is, as nobody knows which label is right."""
    pictures: dict[str, list[Found]] = {}
    for one in found:
        pictures.setdefault(one.reading.pixels_sha256, []).append(one)
    several = [copies for copies in pictures.values() if len(copies) > 1]
    conflicts = [copies for copies in several if _labels(copies) > 1]
    dropped = [_as_conflict(one, copies) for copies in conflicts for one in copies]
    dropped += [_as_copy(one, copies[0]) for copies in several if _labels(copies) == 1 for one in copies[1:]]
    return Copies(sum(len(copies) - 1 for copies in several), tuple(map(_files, conflicts)), tuple(dropped))


def find_near_duplicates(found: Sequence[Found], distance: int) -> NearDuplicates:
    """Look-alikes within `distance` bits share a group, whatever their labels, and so one side of the split."""
    groups = near_duplicate_groups(np.array([one.reading.perceptual_hash for one in found], dtype=np.uint64), distance)
    members: dict[int, list[Found]] = {}
    for one, group in zip(found, groups.tolist(), strict=True):
        members.setdefault(group, []).append(one)
    several = [group for group in members.values() if len(group) > 1]
    flagged = [_as_look_alike(one, group) for group in several if _labels(group) > 1 for one in group]
    return NearDuplicates(groups, tuple(map(_files, several)), tuple(flagged))


def odd_masks(found: Iterable[Found], spec: DatasetSpec) -> tuple[Dropped, ...]:
    """Images whose mask is not what their class makes one expect."""
    flags = ((one.image.file, _mask_oddity(one, spec)) for one in found)
    return tuple(Dropped(file=file, reason=reason) for file, reason in flags if reason)


def _mask_oddity(one: Found, spec: DatasetSpec) -> str:
    fraction, name = one.reading.mask_fraction, one.image.class_name
    if fraction is None:
        return ""
    if name in spec.without_evidence:
        return f"its mask outlines a {spec.evidence}, but its class is {name}" if fraction else ""
    if fraction == 0:
        return f"its mask is empty, but its class is {name}"
    if fraction > HUGE_MASK:
        return f"its mask covers {fraction:.0%} of the image; inverted?"
    return f"its {spec.evidence} is less than a pixel at this image size" if one.reading.mask_vanished else ""


def _labels(found: Iterable[Found]) -> int:
    return len({one.image.class_name for one in found})


def _files(found: Iterable[Found]) -> tuple[str, ...]:
    return tuple(one.image.file for one in found)


def _as_conflict(one: Found, copies: Iterable[Found]) -> Dropped:
    others = ", ".join(other.image.file for other in copies if other.image.class_name != one.image.class_name)
    return Dropped(file=one.image.file, reason=f"same image under two labels: {others}")


def _as_copy(one: Found, first: Found) -> Dropped:
    same = "byte-identical to" if one.reading.sha256 == first.reading.sha256 else "same pixels as"
    return Dropped(file=one.image.file, reason=f"{same} {first.image.file}")


def _as_look_alike(one: Found, group: Iterable[Found]) -> Dropped:
    others = ", ".join(other.image.file for other in group if other.image.class_name != one.image.class_name)
    return Dropped(
        file=one.image.file, reason=f"looks like {others} of another class; kept on the same side of the split"
    )
