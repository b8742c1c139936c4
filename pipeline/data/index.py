"""Find the images of a set in a folder: classes by folder, by file name or by table, and the masks of each image."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from pipeline.data.described import Described, Description, describe
from pipeline.data.masks import MASKS_FOLDER, NOTHING, Outlines, Told, sort_out
from pipeline.data.names import is_image_file, list_files
from pipeline.errors import StudyError
from pipeline.spec import DatasetSpec

SHORTCUT_FOLDER = "shortcut"  # at the top of a phantom: masks of planted tags, which are no images
CLASS_NAME = re.compile(r"\w[\w .-]*")
NAME_THEM = "name `classes` in params.yaml"


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
    litter: int  # other files, the set's own tables not counted


def scan_folder(folder: Path, spec: DatasetSpec, shown: str) -> Scan:
    """Every file of the folder in its place; order and content depend on the names and the set's table alone.

    Args:
        shown: what the user calls the folder, for messages.

    Raises:
        StudyError: a class has no image, the classes or a mask's image cannot be told, or the set's table does not fit.
    """
    paths = list_files(folder, shown)
    possible = [path for path in paths if is_image_file(folder, path)]
    files = [path for path in possible if path.parts[0] != SHORTCUT_FOLDER]
    outlines, told = _outlines(folder, paths, files, spec, shown)
    listed = [path for path in outlines.images if not told or path in told.rows]
    classes = spec.classes or _classes_of(listed, outlines, told, spec, shown)
    named = {path: _class_of(path, replace(spec, classes=classes), told) for path in listed}
    found = [_image(path, named[path], outlines, told) for path in listed if named[path]]
    _check_classes(shown, spec, classes, found, outlines.orphans)
    tables = {name.casefold() for name in (spec.layout.table, spec.layout.curated) if name}
    return Scan(
        classes=classes,
        images=tuple(found),
        orphan_masks=tuple(map(str, outlines.orphans)),
        strays=tuple(str(path) for path in listed if not named[path]),
        unlisted=tuple(str(path) for path in outlines.images if told and path not in told.rows),
        absent=told.absent if told else (),
        litter=len({*paths} - {*possible}) - sum(path.name.casefold() in tables for path in paths),
    )


def _outlines(
    folder: Path, paths: Sequence[PurePosixPath], files: Sequence[PurePosixPath], spec: DatasetSpec, shown: str
) -> tuple[Outlines, Description | None]:
    """Images and masks, and what the set's table says of them, if it has one."""
    masks_folder = spec.layout.masks or ("" if _is_class(MASKS_FOLDER, spec.classes) else MASKS_FOLDER)
    outlines, told = sort_out(files, masks_folder, spec.classes, NOTHING), None
    if spec.layout.table:
        told = describe(folder, paths, files, outlines, spec.layout, shown)
        outlines = sort_out(files, masks_folder, spec.classes, Told(told.rows.keys(), told.masks))
    for mask, images in outlines.unclear.items():
        raise StudyError(
            f"{shown}: the mask {mask} may be of {images[0]} or {images[1]}; let its folder mirror that of the images, "
            "or name it in the column mask of a table"
        )
    return outlines, told


def _is_class(name: str, classes: Iterable[str]) -> bool:
    return name in (one.casefold() for one in classes)


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


def _classes_of(
    listed: Sequence[PurePosixPath], outlines: Outlines, told: Description | None, spec: DatasetSpec, shown: str
) -> tuple[str, ...]:
    """The classes of a set that does not name them: those of its table, else the folders that hold its images."""
    rows = told.rows.values() if told else ()
    found = {row.class_name for row in rows if row.class_name}
    if not found:
        _check_folders(listed, shown)
        found = {path.parent.name for path in listed}
    if not told:
        _check_masks(outlines, spec.layout.masks, shown)
    if wrong := sorted(name for name in found if not CLASS_NAME.fullmatch(name)):
        raise StudyError(f"{shown}: {wrong[0]!r} cannot name a class; use letters, digits, blanks, dots and hyphens")
    return tuple(sorted(found))


def _check_folders(images: Iterable[PurePosixPath], shown: str) -> None:
    """Refuses folders of which nobody knows whether they are classes, patients or parts of the set."""
    folders = sorted({path.parent for path in images}, key=str)
    if PurePosixPath() in folders:
        raise StudyError(f"{shown}: some images lie in no folder; give each class a folder, or {NAME_THEM}")
    for folder in folders:
        if folder.parent != folders[0].parent:
            raise StudyError(
                f"{shown}: images lie in {folders[0]} and in {folder}, folders of different places, so that their "
                f"classes cannot be told; {NAME_THEM}"
            )


def _check_masks(outlines: Outlines, masks_folder: str, shown: str) -> None:
    """Refuses what is called as masks are, but may as well be a class."""
    lost, kept = {*outlines.orphans}, {path.parent for path in outlines.images}
    inside = outlines.in_folder
    if inside and not masks_folder and lost.issuperset(inside):
        raise StudyError(
            f"{shown}: {inside[0].parent} is called as a folder of masks, but holds none of an image of the same name; "
            f"rename them, or {NAME_THEM} if it is a class"
        )
    for path in outlines.orphans:
        if path.parent not in kept and path not in inside:
            raise StudyError(
                f"{shown}: {path} and all beside it are called as masks, but their images are not there; give the name "
                f"of the folder of masks as `masks`, or rename the files if they are images"
            )


def _image(path: PurePosixPath, class_name: str, outlines: Outlines, told: Description | None) -> ImageFile:
    row = told.rows[path] if told else Described("", "", "", ())
    return ImageFile(str(path), class_name, tuple(map(str, row.masks or outlines.of(path))), row.split, row.group)


def _check_classes(
    shown: str,
    spec: DatasetSpec,
    classes: tuple[str, ...],
    images: Sequence[ImageFile],
    orphans: Sequence[PurePosixPath],
) -> None:
    have = {image.class_name for image in images}
    missing = [name for name in classes if name not in have]
    hint = f"; {orphans[0]} is called as a mask; rename such files if they are images" if orphans else ""
    if not images:
        needed = f"it needs a folder for each of {', '.join(classes)}" if classes else "give each class a folder"
        raise StudyError(f"{shown}: no image of {spec.title}; {needed}{hint}")
    if missing:
        raise StudyError(f"{shown}: no folder with images named {', '.join(missing)}; every class needs one{hint}")
    if surplus := sorted(have - set(classes)):
        raise StudyError(f"{shown}: class {surplus[0]} stands in its table, but not under classes in params.yaml")
    if spec.labelled and len(classes) < 2:
        raise StudyError(f"{shown}: all images are in {classes[0]}; a set needs two classes, each with a folder")
