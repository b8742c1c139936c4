"""Find the images of a set in a folder: classes by folder, by file name or by table, and the masks of each image."""

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.data.described import Described, Description, describe
from pipeline.errors import StudyError
from pipeline.spec import DatasetSpec

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm")
MASK_STEM = re.compile(r"(?P<image>.+)_mask(_\d+)?")  # a file's stem; folders may be called anything
MASKS_FOLDER = "masks"  # beside that of the images, in curated copies of BUSI
SHORTCUT_FOLDER = "shortcut"  # at the top of a phantom: masks of planted tags, which are no images
CLASS_NAME = re.compile(r"\w[\w .-]*")


@dataclass(frozen=True)
class ImageFile:
    """An image of the set; paths are relative to the raw folder, in POSIX form."""

    file: str
    class_name: str
    masks: tuple[str, ...]
    split: str = ""  # given by the set's table; empty if the study is to split
    group: str = ""  # given by the set's table: a patient; empty if it has none


@dataclass(frozen=True)
class Scan:
    """What a raw folder holds."""

    classes: tuple[str, ...]
    images: tuple[ImageFile, ...]
    orphan_masks: tuple[str, ...]  # masks whose image is absent
    strays: tuple[str, ...]  # images of no class
    unlisted: tuple[str, ...]  # images that the set's table does not list
    absent: tuple[str, ...]  # files that the set's table lists, and that are not there
    litter: int  # other files


def scan_folder(folder: Path, spec: DatasetSpec, shown: str) -> Scan:
    """Every file of the folder in its place; order and content depend on the names and the set's table alone.

    Args:
        shown: what the user calls the folder, for messages.

    Raises:
        StudyError: a class has no image, or the set's table does not fit.
    """
    paths = list_files(folder)
    layout = spec.layout
    told = describe(folder, paths, layout, shown) if layout.table else None
    files = [path for path in paths if is_image_name(path) and path.parts[0] != SHORTCUT_FOLDER]
    outlines = [path for path in files if _is_outline(path, layout.masks, told)]
    images = sorted(set(files) - set(outlines), key=str)
    classes = spec.classes or _classes_of(images, told, shown)
    named = {path: _class_of(path, replace(spec, classes=classes), told) for path in images}
    masks, orphans = _match_masks(images, outlines, layout.masks)
    unlisted = [path for path in images if told and path not in told.rows]
    found = [_image(path, named[path], masks, told) for path in images if named[path] and path not in set(unlisted)]
    _check_classes(shown, spec, classes, found)
    strays = [path for path in images if not named[path] and path not in set(unlisted)]
    return Scan(
        classes=classes,
        images=tuple(found),
        orphan_masks=tuple(map(str, orphans)),
        strays=tuple(map(str, strays)),
        unlisted=tuple(map(str, unlisted)),
        absent=told.absent if told else (),
        litter=sum(not is_image_name(path) for path in paths),
    )


def list_files(folder: Path) -> list[PurePosixPath]:
    """All files under the folder, relative to it and sorted; linked folders are not entered.

    Raises:
        StudyError: a name is not Unicode or holds a carriage return, so that no table could hold it.
    """
    found = []
    for parent, _, names in os.walk(folder):
        found += [PurePosixPath(Path(parent, name).relative_to(folder).as_posix()) for name in names]
    for path in found:
        if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
            raise StudyError(f"{folder}: the file name {str(path)!a} is not UTF-8; rename the file")
        if "\r" in str(path):
            raise StudyError(f"{folder}: the file name {str(path)!a} holds a carriage return; rename the file")
    return sorted(found, key=str)


def is_image_name(path: PurePosixPath) -> bool:
    """Whether the file can be an image or a mask."""
    return has_image_suffix(path) and not is_hidden(path)


def has_image_suffix(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_hidden(path: PurePosixPath) -> bool:
    """Whether it, or a folder above it, is a hidden file or one that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _is_outline(path: PurePosixPath, masks_folder: str, told: Description | None) -> bool:
    if told and path in told.rows:
        return False
    return bool(MASK_STEM.fullmatch(path.stem)) or _under(path, masks_folder)


def _under(path: PurePosixPath, folder: str) -> bool:
    return bool(folder) and folder.casefold() in (part.casefold() for part in path.parts[:-1])


def _class_of(path: PurePosixPath, spec: DatasetSpec, told: Description | None) -> str:
    """The class that the table gives, else the innermost folder named as one, else the beginning of the name."""
    if not spec.labelled:
        return spec.classes[0]
    row = told.rows.get(path) if told else None
    if row and row.class_name:
        return row.class_name
    names = {name.casefold(): name for name in spec.classes}
    found = (names[part.casefold()] for part in reversed(path.parts[:-1]) if part.casefold() in names)
    return next(found, "") or _class_in_name(path.stem, names)


def _class_in_name(stem: str, names: Mapping[str, str]) -> str:
    """`benign` for `benign_id_12`, as curated copies of BUSI are named."""
    fitting = [name for key, name in names.items() if re.match(rf"{re.escape(key)}(_| ?\()", stem.casefold())]
    return max(fitting, key=len, default="")


def _classes_of(images: Iterable[PurePosixPath], told: Description | None, shown: str) -> tuple[str, ...]:
    """The classes of a set that does not name them: those of its table, else the folders that hold its images."""
    rows = told.rows.values() if told else ()
    found = {row.class_name for row in rows if row.class_name} or {path.parent.name for path in images}
    if wrong := sorted(name for name in found if not CLASS_NAME.fullmatch(name)):
        raise StudyError(f"{shown}: {wrong[0]!r} cannot name a class; use letters, digits, blanks, dots and hyphens")
    return tuple(sorted(found))


def _image(
    path: PurePosixPath, class_name: str, masks: Mapping[str, list[PurePosixPath]], told: Description | None
) -> ImageFile:
    row = told.rows[path] if told else Described("", "", "", ())
    return ImageFile(
        str(path), class_name, tuple(map(str, row.masks or masks.get(_image_key(path), ()))), row.split, row.group
    )


def _match_masks(
    images: Iterable[PurePosixPath], outlines: Iterable[PurePosixPath], masks_folder: str
) -> tuple[dict[str, list[PurePosixPath]], list[PurePosixPath]]:
    """The masks of each image, by `_image_key`, and the masks whose image is absent."""
    known = {_image_key(path) for path in images}
    inside: dict[PurePosixPath, list[PurePosixPath]] = {}  # folder -> folders in it that hold images, at any depth
    for folder in sorted({parent for path in images for parent in path.parents}):
        inside.setdefault(folder.parent, []).append(folder)
    masks: dict[str, list[PurePosixPath]] = {}
    orphans = []
    for outline in outlines:
        key = next((key for key in _outlined(outline, masks_folder or MASKS_FOLDER, inside) if key in known), None)
        masks.setdefault(key, []).append(outline) if key else orphans.append(outline)
    return masks, orphans


def _outlined(
    outline: PurePosixPath, masks_folder: str, inside: Mapping[PurePosixPath, list[PurePosixPath]]
) -> list[str]:
    """Which image a mask may belong to, by its key: one beside it, or one in a folder beside that of the masks."""
    found = MASK_STEM.fullmatch(outline.stem)
    stems, places = [found["image"]] if found else [], [outline.parent]
    parts = [part.casefold() for part in outline.parts[:-1]]
    if masks_folder.casefold() in parts:
        at = parts.index(masks_folder.casefold())
        above, below = PurePosixPath(*outline.parts[:at]), PurePosixPath(*outline.parts[at + 1 : -1])
        places += [above / below, *(folder / below for folder in inside.get(above, ()))]
        stems.append(outline.stem)
    return [_image_key(place / f"{stem}.png") for place in places for stem in stems]


def _image_key(path: PurePosixPath) -> str:
    """The path without suffix; equal also where one name spells é as one letter and another as two."""
    return unicodedata.normalize("NFC", str(path.with_suffix("")))


def _check_classes(shown: str, spec: DatasetSpec, classes: tuple[str, ...], images: list[ImageFile]) -> None:
    have = {image.class_name for image in images}
    missing = [name for name in classes if name not in have]
    if not images:
        needed = f"it needs a folder for each of {', '.join(classes)}" if classes else "give each class a folder"
        raise StudyError(f"{shown}: no image of {spec.title}; {needed}")
    if missing:
        raise StudyError(f"{shown}: no folder with images named {', '.join(missing)}; every class needs one")
    if surplus := sorted(have - set(classes)):
        raise StudyError(f"{shown}: class {surplus[0]} stands in its table, but not under classes in params.yaml")
    if spec.labelled and len(classes) < 2:
        raise StudyError(f"{shown}: all images are in {classes[0]}; a set needs two classes, each with a folder")
