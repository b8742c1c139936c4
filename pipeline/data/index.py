"""Find the images of a set in a folder: class folders at any depth by name, and the masks that stand beside images."""

import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.data.spec import DatasetSpec
from pipeline.errors import StudyError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")  # a file's stem; folders may be called anything
SHORTCUT_FOLDER = "shortcut"  # at the top of a phantom: masks of planted tags, which are no images


@dataclass(frozen=True)
class ImageFile:
    """An image of the set; paths are relative to the raw folder, in POSIX form."""

    file: str
    class_name: str
    masks: tuple[str, ...]


@dataclass(frozen=True)
class Scan:
    """What a raw folder holds."""

    images: tuple[ImageFile, ...]
    orphan_masks: tuple[str, ...]  # masks whose image is absent
    strays: tuple[str, ...]  # images in no class folder
    litter: int  # other files


def scan_folder(folder: Path, spec: DatasetSpec, shown: str) -> Scan:
    """Every file of the folder in its place; order and content depend on the names alone.

    Args:
        shown: what the user calls the folder, for messages.

    Raises:
        StudyError: a class has no folder or no image.
    """
    paths = list_files(folder)
    files = [path for path in paths if is_image_name(path) and path.parts[0] != SHORTCUT_FOLDER]
    classes = {path: class_of(path, spec) for path in files}
    masks, orphans = _match_masks([path for path in files if classes[path]])
    images = tuple(
        ImageFile(str(path), name, tuple(masks.get(_stem_key(path), ())))
        for path, name in classes.items()
        if name and not MASK_STEM.fullmatch(path.stem)
    )
    _check_classes(shown, spec, images)
    strays = tuple(str(path) for path, name in classes.items() if not name)
    return Scan(images, orphans, strays, sum(not is_image_name(path) for path in paths))


def list_files(folder: Path) -> list[PurePosixPath]:
    """All files under the folder, relative to it and sorted; linked folders are not entered.

    Raises:
        StudyError: a name is not Unicode, so that no table could hold it.
    """
    found = []
    for parent, _, names in os.walk(folder):
        found += [PurePosixPath(Path(parent, name).relative_to(folder).as_posix()) for name in names]
    for path in found:
        if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
            raise StudyError(f"{folder}: the file name {str(path)!a} is not UTF-8; rename the file")
    return sorted(found, key=str)


def is_image_name(path: PurePosixPath) -> bool:
    """Whether the file can be an image or a mask."""
    return has_image_suffix(path) and not is_hidden(path)


def has_image_suffix(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_hidden(path: PurePosixPath) -> bool:
    """Whether it, or a folder above it, is a hidden file or one that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def class_of(path: PurePosixPath, spec: DatasetSpec) -> str:
    """The class that the innermost folder with a class's name gives, whatever its case; empty if there is none."""
    if not spec.labelled:
        return spec.classes[0]
    names = {name.casefold(): name for name in spec.classes}
    found = (names[part.casefold()] for part in reversed(path.parts[:-1]) if part.casefold() in names)
    return next(found, "")


def _match_masks(paths: Iterable[PurePosixPath]) -> tuple[dict[PurePosixPath, list[str]], tuple[str, ...]]:
    """The masks of each image, by the image's key, and the masks whose image is absent."""
    outlines = {path: found for path in paths if (found := MASK_STEM.fullmatch(path.stem))}
    images = {_stem_key(path) for path in paths if path not in outlines}
    masks: dict[PurePosixPath, list[str]] = {}
    for path, found in outlines.items():
        masks.setdefault(_stem_key(path.with_name(found["image"] + ".png")), []).append(str(path))
    return masks, tuple(name for key, names in masks.items() if key not in images for name in names)


def _stem_key(path: PurePosixPath) -> PurePosixPath:
    """Equal for an image and its masks, also where one name spells é as one letter and the other as two."""
    return path.with_name(unicodedata.normalize("NFC", path.stem))


def _check_classes(shown: str, spec: DatasetSpec, images: tuple[ImageFile, ...]) -> None:
    missing = [name for name in spec.classes if name not in {image.class_name for image in images}]
    if len(missing) == len(spec.classes):
        raise StudyError(f"{shown}: no image of {spec.title}; it needs a folder for each of {', '.join(spec.classes)}")
    if missing:
        raise StudyError(f"{shown}: no folder with images named {', '.join(missing)}; every class needs one")
