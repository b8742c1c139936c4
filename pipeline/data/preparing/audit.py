"""Judge what was read of a set: what is dropped, and what is worth a look."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from pipeline.data.index import Scan
from pipeline.data.preparing.reading import Found, files_of, labels_of
from pipeline.data.preparing.split import SPLITS
from pipeline.errors import StudyError
from pipeline.records import Dropped
from pipeline.spec import DatasetSpec

HUGE_MASK = 0.8  # of the image: rather inverted than a lesion
NAMED = 3  # files named in a refusal


@dataclass(frozen=True)
class Copies:
    """Images whose pixels are equal."""

    pairs: tuple[tuple[str, str], ...]  # the file that stands for the picture, and one equal to it
    conflicts: tuple[tuple[str, ...], ...]  # files of each picture that stands under two labels
    dropped: tuple[Dropped, ...]


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
    """Equal pictures: one of a class is kept; under two labels none is, as nobody knows which label is right.

    Kept is the first, or, where splits are given, the first in the test split, else in validation.
    """
    pictures: dict[str, list[Found]] = {}
    for one in found:
        pictures.setdefault(one.reading.pixels_sha256, []).append(one)
    several = [copies for copies in pictures.values() if len(copies) > 1]
    conflicts = [copies for copies in several if len(labels_of(copies)) > 1]
    pairs = [(one, max(copies, key=split_rank)) for copies in several for one in copies]
    pairs = [(one, kept) for one, kept in pairs if one is not kept]
    unclear = {one.image.file for copies in conflicts for one in copies}
    dropped = [_as_conflict(one, copies) for copies in conflicts for one in copies]
    dropped += [_as_copy(one, kept) for one, kept in pairs if one.image.file not in unclear]
    return Copies(
        pairs=tuple((kept.image.file, one.image.file) for one, kept in pairs),
        conflicts=tuple(map(files_of, conflicts)),
        dropped=tuple(dropped),
    )


def split_rank(one: Found) -> int:
    """How far the given split of an image is from training; a model must not be trained on what it is judged by."""
    return SPLITS.index(one.image.split) if one.image.split else 0


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


def _as_conflict(one: Found, copies: Iterable[Found]) -> Dropped:
    others = ", ".join(other.image.file for other in copies if other.image.class_name != one.image.class_name)
    return Dropped(file=one.image.file, reason=f"same image under two labels: {others}")


def _as_copy(one: Found, first: Found) -> Dropped:
    same = "byte-identical to" if one.reading.sha256 == first.reading.sha256 else "same pixels as"
    return Dropped(file=one.image.file, reason=f"{same} {first.image.file}")


def not_used(scan: Scan, table: str) -> tuple[Dropped, ...]:
    """Files that are no image of the set, with the reason; `table` is the name of the set's own table."""
    reasons = {
        "mask without its image": scan.orphan_masks,
        "in no folder named as a class": scan.strays,
        f"not listed in {table}": scan.unlisted,
        f"listed in {table}, but there is no such file": scan.absent,
    }
    return tuple(Dropped(file=file, reason=reason) for reason, files in reasons.items() for file in files)
