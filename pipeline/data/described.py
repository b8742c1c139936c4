"""What a set's own table says of its images: class, given split, masks, and who must not be torn apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.preparing.split import SPLITS
from pipeline.data.tables import FileNames, find_table, read_table
from pipeline.errors import StudyError
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
    name: str  # of the table's file
    rows: dict[PurePosixPath, Described]
    absent: tuple[str, ...]  # files that the table names and the set lacks


def describe(folder: Path, paths: Sequence[PurePosixPath], layout: Layout, shown: str) -> Description:
    """The table of the set, by image file.

    Args:
        paths: all files of the folder, relative to it.

    Raises:
        StudyError: the table is absent, lacks a column, or contradicts itself.
    """
    path = folder / find_table(paths, layout.table, shown)
    table = read_table(path)
    groups = _checked(table, layout.groups.lower(), path.name)
    names, rows, absent = FileNames(paths), {}, []
    for row in table.to_dict("records"):
        file = names.find(row["file"], path.name)
        if file is None:
            absent.append(row["file"])
        elif file in rows:
            raise StudyError(f"{path.name}: lists {file} twice; keep one of the rows")
        else:
            rows[file] = _described(row, groups, names, path.name)
    return Description(path.name, rows, tuple(absent))


def _checked(table: pd.DataFrame, groups: str, shown: str) -> str:
    """The column of the groups, empty if there is none."""
    if "file" not in table:
        raise StudyError(f"{shown}: has no column file; it has {', '.join(table.columns)}")
    if groups and groups not in table:
        raise StudyError(f"{shown}: has no column {groups}; it has {', '.join(table.columns)}")
    for column in {"class", "split", groups} & set(table.columns):
        if empty := [str(file) for file in table.loc[table[column] == "", "file"]]:
            more = f" and {len(empty) - NAMED} more" if len(empty) > NAMED else ""
            raise StudyError(
                f"{shown}: {column} is empty for {', '.join(empty[:NAMED])}{more}; fill it or drop the rows"
            )
    return groups


def _described(row: dict, groups: str, names: FileNames, shown: str) -> Described:
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


def _mask_of(text: str, names: FileNames, shown: str) -> PurePosixPath:
    mask = names.find(text, shown)
    if mask is None:
        raise StudyError(f"{shown}: names the mask {text}, which the set lacks; bring it or empty the cell")
    return mask
