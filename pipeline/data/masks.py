"""Which files of a set are masks, and of which image each: by a name beside it, or by a folder that mirrors its.

A file is a mask if the set's table names it as one, if it lies in the folder of masks, or if it is called
`<image>_mask` or `<image>_mask_<number>` and that image lies beside it. Without its image such a file is an orphan,
except where the name is that of its own class: `with_mask_7.png` in the folder of the class `with_mask` is an image.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.data.names import folded, spelling, without_suffix

MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")  # a file's stem; folders may be called anything
MASKS_FOLDER, IMAGES_FOLDER = "masks", "images"  # side by side, in curated copies of BUSI and in many other sets


@dataclass(frozen=True)
class Told:
    """What a set's table says of its files."""

    images: Collection[PurePosixPath] = frozenset()
    masks: Collection[PurePosixPath] = frozenset()


NOTHING = Told()


@dataclass(frozen=True)
class Outlines:
    """The files of a set, sorted out."""

    images: tuple[PurePosixPath, ...]
    masks: Mapping[str, tuple[PurePosixPath, ...]]  # by `image_key`
    orphans: tuple[PurePosixPath, ...]  # masks whose image is absent
    unclear: Mapping[PurePosixPath, tuple[PurePosixPath, ...]]  # masks, and the images each of which may be theirs
    in_folder: tuple[PurePosixPath, ...]  # of all masks, those in the folder of masks

    def of(self, image: PurePosixPath) -> tuple[PurePosixPath, ...]:
        return self.masks.get(image_key(image), ())


def image_key(path: PurePosixPath) -> str:
    """The path without suffix: an image and its mask may differ in format."""
    return spelling(str(without_suffix(path)))


def sort_out(files: Sequence[PurePosixPath], masks_folder: str, classes: Collection[str], told: Told) -> Outlines:
    """Which of the files are images, and whose masks the others are.

    Args:
        masks_folder: its name; empty if there is none.
        classes: of the set, as far as they are named; else the folder of a file is its class.
    """
    free = [path for path in files if path not in told.masks]
    inside = [path for path in free if path not in told.images and is_under(path, masks_folder)]
    outside = sorted({*free} - {*inside}, key=str)
    owners, orphans = _beside(outside, classes, told)
    images = [path for path in outside if path not in owners and path not in orphans]
    mirrored, lost, unclear = _mirrored(inside, images, masks_folder)
    keys = {image_key(path) for path in images}
    lost += [mask for mask, key in owners.items() if key not in keys]  # its image is itself a mask
    masks: dict[str, list[PurePosixPath]] = {}
    for mask, key in sorted((owners | mirrored).items(), key=lambda item: str(item[0])):
        masks.setdefault(key, []).append(mask)
    return Outlines(
        images=tuple(images),
        masks={key: tuple(of_image) for key, of_image in masks.items()},
        orphans=tuple(sorted([*orphans, *lost], key=str)),
        unclear=unclear,
        in_folder=tuple(inside),
    )


def is_under(path: PurePosixPath, folder: str) -> bool:
    return bool(folder) and folded(folder) in map(folded, path.parts[:-1])


def _beside(
    files: Iterable[PurePosixPath], classes: Collection[str], told: Told
) -> tuple[dict[PurePosixPath, str], set[PurePosixPath]]:
    """Masks beside their image, with its key; and those whose image is absent."""
    known, owners, orphans = {image_key(path) for path in files}, {}, set()
    for path in files:
        found = MASK_STEM.fullmatch(without_suffix(path).name)
        if found is None or path in told.images:
            continue
        if (key := image_key(path.parent / found["image"])) in known:
            owners[path] = key
        elif not _is_called_as_its_class(path, f"{found['image']}_mask", classes):
            orphans.add(path)
    return owners, orphans


def _is_called_as_its_class(path: PurePosixPath, name: str, classes: Collection[str]) -> bool:
    return folded(name) in map(folded, classes or [path.parent.name])


def _mirrored(
    inside: Iterable[PurePosixPath], images: Iterable[PurePosixPath], masks_folder: str
) -> tuple[dict[PurePosixPath, str], list[PurePosixPath], dict[PurePosixPath, tuple[PurePosixPath, ...]]]:
    """Masks in the folder of masks with the key of their image, those without one, and those of which it is unclear."""
    places, owners, lost, unclear = _places(images), {}, [], {}
    for mask in inside:
        found = _images_of(mask, masks_folder, places)
        if len(found) > 1:
            unclear[mask] = tuple(found.values())
        elif found:
            owners[mask] = next(iter(found))
        else:
            lost.append(mask)
    return owners, lost, unclear


Place = tuple[str, str]  # of a file: a folder above it, and the path without suffix from there on


def _places(images: Iterable[PurePosixPath]) -> dict[Place, list[PurePosixPath]]:
    """Images by each folder above them, with the folder just below that one left out, and with it."""
    places: dict[Place, list[PurePosixPath]] = {}
    for path in images:
        parts = PurePosixPath(image_key(path)).parts
        places.setdefault(("", "/".join(parts)), []).append(path)
        for at in range(len(parts) - 1):
            places.setdefault(("/".join([*parts[:at], "*"]), "/".join(parts[at + 1 :])), []).append(path)
    return places


def _images_of(
    mask: PurePosixPath, masks_folder: str, places: Mapping[Place, list[PurePosixPath]]
) -> dict[str, PurePosixPath]:
    """The images that a mask may belong to, by their keys: beside it, above its folder, or in one beside that."""
    key = PurePosixPath(image_key(mask))
    at = [folded(part) for part in key.parts].index(folded(masks_folder))
    above, below = key.parts[:at], key.parts[at + 1 : -1]
    folders = [("", key.parts[:-1]), ("", (*above, *below)), ("/".join([*above, "*"]), below)]
    found = MASK_STEM.fullmatch(key.name)
    for place, folder in folders:
        for stem in ([found["image"]] if found else []) + [key.name]:
            if images := places.get((place, "/".join([*folder, stem]))):
                return _preferred(images, len(above))
    return {}


def _preferred(images: Iterable[PurePosixPath], at: int) -> dict[str, PurePosixPath]:
    """Those in a folder called images, if there are any."""
    usual = [path for path in images if path.parts[at].casefold() == IMAGES_FOLDER]
    return {image_key(path): path for path in usual or images}
