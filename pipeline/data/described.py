"""What a set's own table says of its images: class, given split, masks, and who must not be torn apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.masks import Outlines
from pipeline.data.preparing.split import SPLITS
from pipeline.data.tables import FileNames, find_table, read_table
from pipeline.errors import StudyError
from pipeline.files import is_absolute
from pipeline.spec import Layout

SPELLINGS = {"training": "train", "val": "validation", "valid": "validation", "testing": "test"}
NAMED = 3  # rows named in a refusal


@dataclass(frozen=True)
class Described:
    """A row of the table."""

    class_name: str  # empty: its folder says it
    split: str  # empty where the table has no splits
    group: str  # empty where the table has no groups
    masks: tuple[PurePosixPath, ...]


@dataclass(frozen=True)
class Description:
    rows: dict[PurePosixPath, Described]
    absent: tuple[str, ...]  # files that the table names and the set lacks

    @property
    def masks(self) -> set[PurePosixPath]:
        return {mask for row in self.rows.values() for mask in row.masks}


class Names:
    """Looks up an image among images first, and a mask among masks."""

    def __init__(self, files: Sequence[PurePosixPath], outlines: Outlines) -> None:
        images, inside = {*outlines.images}, {*outlines.in_folder}
        self._images = FileNames(outlines.images)
        self._called_as_masks = FileNames(path for path in files if path not in images and path not in inside)
        self._masks = FileNames(path for path in files if path not in images)
        self._all = FileNames(files)

    def image(self, text: str, shown: str) -> PurePosixPath | None:
        """A mask in the folder of masks is no image, unless the text names its folder too: its image may be absent."""
        found = self._images.find(text, shown) or self._called_as_masks.find(text, shown)
        return found or (self._all.find(text, shown) if "/" in text and not is_absolute(text) else None)

    def mask(self, text: str, shown: str) -> PurePosixPath | None:
        return self._masks.find(text, shown) or self._all.find(text, shown)


def describe(
    folder: Path,
    paths: Sequence[PurePosixPath],
    files: Sequence[PurePosixPath],
    outlines: Outlines,
    layout: Layout,
    shown: str,
) -> Description:
    """The table of the set, by image file.

    Args:
        paths: all files of the folder, relative to it.
        files: images and masks.
        outlines: which of them are which, as far as names tell.

    Raises:
        StudyError: the table is absent, lacks a column, names no file of the set, or contradicts itself.
    """
    path = folder / find_table(paths, layout.table, shown)
    table = read_table(path)
    groups = _checked(table, layout.groups.lower(), path.name)
    rows, absent = _rows(table, groups, Names(files, outlines), path.name)
    if not rows:
        instead = f"; its first row names {absent[0]}" if absent else ", as it has no rows"
        raise StudyError(f"{path.name}: names no image of the set{instead}")
    told = Description(rows, tuple(absent))
    if both := sorted(map(str, told.rows.keys() & told.masks)):
        raise StudyError(f"{path.name}: names {both[0]} as an image and as a mask; write the path of each")
    return told


def _rows(
    table: pd.DataFrame, groups: str, names: Names, shown: str
) -> tuple[dict[PurePosixPath, Described], list[str]]:
    """What is said of each file, and the names of those that are absent."""
    rows: dict[PurePosixPath, Described] = {}
    texts: dict[PurePosixPath, str] = {}
    absent = []
    for row in table.to_dict("records"):
        file = names.image(row["file"], shown)
        if file is None:
            absent.append(row["file"])
        elif file in rows:
            as_what = f" (as {texts[file]} and as {row['file']})" if row["file"] != texts[file] else ""
            raise StudyError(f"{shown}: lists {file} twice{as_what}; keep one of the rows")
        else:
            rows[file], texts[file] = _described(row, groups, names, shown), row["file"]
    return rows, absent


def _checked(table: pd.DataFrame, groups: str, shown: str) -> str:
    """The column of the groups, empty if there is none."""
    if "file" not in table:
        raise StudyError(f"{shown}: has no column file; it has {', '.join(table.columns)}")
    if groups and groups not in table:
        raise StudyError(f"{shown}: has no column {groups}; it has {', '.join(table.columns)}")
    if blank := int((table["file"] == "").sum()):
        raise StudyError(f"{shown}: file is empty in {blank} rows; fill it or drop the rows")
    for column in {"class", "split", groups} & set(table.columns):
        if empty := [str(file) for file in table.loc[table[column] == "", "file"]]:
            more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
            raise StudyError(
                f"{shown}: {column} is empty for {', '.join(empty[:NAMED])}{more}; fill it or drop the rows"
            )
    return groups


def _described(row: dict, groups: str, names: Names, shown: str) -> Described:
    masks = [text.strip() for text in row.get("mask", "").split("|") if text.strip()]
    return Described(
        class_name=row.get("class", ""),
        split=_split_of(row["split"], shown) if "split" in row else "",
        group=row[groups] if groups else "",
        masks=tuple(_mask_of(text, names, shown) for text in masks),
    )


def _split_of(text: str, shown: str) -> str:
    split = SPELLINGS.get(text.lower(), text.lower())
    if split not in SPLITS:
        raise StudyError(f"{shown}: split {text} is unknown; choose from {', '.join(SPLITS)}")
    return split


def _mask_of(text: str, names: Names, shown: str) -> PurePosixPath:
    mask = names.mask(text, shown)
    if mask is None:
        raise StudyError(f"{shown}: names the mask {text}, which the set lacks; bring it or empty the cell")
    return mask
