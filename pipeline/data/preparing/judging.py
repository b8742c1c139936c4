"""Decide which images of a set enter, what belongs together among them, and who is in which split."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.images import decode_image
from pipeline.data.preparing import given
from pipeline.data.preparing.audit import Copies, find_copies
from pipeline.data.preparing.curated import Curation, read_curation
from pipeline.data.preparing.likeness import Likeness, LinkMethod, find_likeness
from pipeline.data.preparing.reading import Found, files_of
from pipeline.data.preparing.split import SPLITS, check_split, split_groups
from pipeline.params import DatasetParams, PreprocessParams
from pipeline.records import Dropped
from pipeline.seeds import cell_seed
from pipeline.spec import DatasetSpec


@dataclass(frozen=True)
class Judged:
    """Which images enter the set, what belongs together, and what was noticed."""

    kept: tuple[Found, ...]
    likeness: Likeness  # of the kept
    splits: tuple[str, ...]  # of the kept
    copies: Copies
    curation: Curation
    leaking: tuple[Dropped, ...]  # left out because the given split leaks

    @property
    def dropped(self) -> tuple[Dropped, ...]:
        return (*self.copies.dropped, *self.curation.left_out, *self.leaking)


def judge(
    found: Sequence[Found],
    raw: Path,
    spec: DatasetSpec,
    dataset_params: DatasetParams,
    preprocess_params: PreprocessParams,
    seed: int,
) -> Judged:
    """Judges all images that were read.

    Raises:
        StudyError: a curated list or a given split does not fit, or too few images are left to be split.
    """
    readable = [one for one in found if not one.reading.problem]
    curation = _curation(readable, raw, spec)
    kept = _without(readable, curation.left_out)
    copies = find_copies(kept)
    kept = _without(kept, copies.dropped)
    likeness = find_likeness(
        kept, dataset_params, _keys(readable, copies, curation), partial(_open, raw, files_of(kept))
    )
    leaking: tuple[Dropped, ...] = ()
    if given.has_given_splits(kept) and (leaking := given.as_leaking(kept, likeness.groups)):
        likeness = likeness.among(~given.leaking(kept, likeness.groups))
        kept = _without(kept, leaking)
    splits = _splits(kept, likeness, spec, preprocess_params, cell_seed(seed, spec.name, "split"))
    return Judged(tuple(kept), likeness, tuple(splits), copies, curation, leaking)


def _keys(readable: Sequence[Found], copies: Copies, curation: Curation) -> dict[LinkMethod, dict[str, frozenset[str]]]:
    """What files share, by the method that links them.

    An image stands for its copies too: a patient is tied to it even if the patient's own file is a copy left out.
    """
    given_groups = {one.image.file: frozenset({one.image.group}) for one in readable if one.image.group}
    keys: dict[LinkMethod, dict[str, frozenset[str]]] = {"curated": dict(curation.groups), "given_group": given_groups}
    for keys_of in keys.values():
        for kept, copy in copies.pairs:
            keys_of[kept] = keys_of.get(kept, frozenset()) | keys_of.get(copy, frozenset())
    return keys


def _curation(readable: Sequence[Found], raw: Path, spec: DatasetSpec) -> Curation:
    name = spec.layout.curated
    return read_curation(raw, files_of(readable), name, str(raw)) if name else Curation()


def _without(found: Sequence[Found], dropped: Sequence[Dropped]) -> list[Found]:
    files = _files(dropped)
    return [one for one in found if one.image.file not in files]


def _files(dropped: Sequence[Dropped]) -> set[str]:
    return {entry.file for entry in dropped}


def _open(raw: Path, files: Sequence[str], place: int) -> Image.Image:
    return decode_image((raw / files[place]).read_bytes())


def _splits(
    kept: Sequence[Found], likeness: Likeness, spec: DatasetSpec, params: PreprocessParams, seed: int
) -> list[str]:
    """The split of each image: as its table gives it, with a validation split made from train where it gives none."""
    labels = np.array([spec.classes.index(one.image.class_name) for one in kept], dtype=np.int64)
    fractions = {SPLITS[1]: params.validation_fraction, SPLITS[2]: params.test_fraction}
    if not given.has_given_splits(kept):
        return split_groups(labels, likeness.groups, spec.classes, fractions, seed)
    splits = np.array([one.image.split for one in kept], dtype=object)
    given.refuse_incomplete(kept, spec)
    if given.lacks_validation(kept):
        train = splits == SPLITS[0]
        splits[train] = split_groups(
            labels[train], likeness.groups[train], spec.classes, {SPLITS[1]: params.validation_fraction}, seed
        )
    check_split(list(splits), labels, likeness.groups, spec.classes)
    return list(splits)
