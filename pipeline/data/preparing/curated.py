"""A list that others made of a set's images: which are one picture, which are disputed, which to keep.

One CSV file with a column `file` (also `filename`; or `class` and `id`, which name `benign (12)`) and any of:
    group (also `id` beside `filename`)   images of equal value share a group, and so one side of the split
    objection                             kept, and flagged in the audit with this text
    drop                                  left out where it is not empty; the text is the reason
A list with none of the three names the images to keep; all others are left out.

So the table of Pawłowska et al. (2023) on BUSI (ID; Filename; Objection; Annotation) and the list of Curated BUSI
(class; id) are taken as published.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.tables import FileNames, find_table, read_table
from pipeline.errors import StudyError
from pipeline.records import Dropped

JUDGEMENTS = ("group", "objection", "drop")


@dataclass(frozen=True)
class Curation:
    """What the list says, by file; empty where there is none."""

    groups: dict[str, str] = field(default_factory=dict)
    objections: tuple[Dropped, ...] = ()
    left_out: tuple[Dropped, ...] = ()
    unknown: int = 0  # rows of the list that name no image of the set

    def objections_to(self, files: Iterable[str]) -> tuple[Dropped, ...]:
        """Those that concern the files."""
        wanted = set(files)
        return tuple(entry for entry in self.objections if entry.file in wanted)


def read_curation(folder: Path, files: Sequence[str], name: str, shown: str) -> Curation:
    """The list `name` of the folder, applied to the images `files`.

    Raises:
        StudyError: it is absent, or names no image of the set.
    """
    paths = [PurePosixPath(path.relative_to(folder).as_posix()) for path in folder.rglob("*") if path.is_file()]
    path = folder / find_table(paths, name, shown)
    table = _published_forms(read_table(path), path.name)
    names = FileNames(map(PurePosixPath, files))
    found = [names.find(_stem(text), path.name) for text in table["file"]]
    listed = table.assign(image=[str(file) if file else "" for file in found])
    known = listed[listed["image"] != ""]
    if known.empty:
        instead = f", but for example {table['file'].iloc[0]}" if len(table) else ""
        raise StudyError(f"{path.name}: names no image of the set{instead}")
    return _curation(known, files, path.name, len(listed) - len(known))


def _curation(known: pd.DataFrame, files: Sequence[str], name: str, unknown: int) -> Curation:
    said = {column: dict(_filled(known, column)) for column in JUDGEMENTS if column in known}
    if said:
        left_out = {file: f"left out by {name}: {reason}" for file, reason in said.get("drop", {}).items()}
    else:
        left_out = {file: f"not among the images that {name} keeps" for file in sorted({*files} - {*known["image"]})}
    objections = [Dropped(file=file, reason=f"{name}: {text}") for file, text in said.get("objection", {}).items()]
    dropped = [Dropped(file=file, reason=reason) for file, reason in left_out.items()]
    return Curation(said.get("group", {}), tuple(objections), tuple(dropped), unknown)


def _filled(table: pd.DataFrame, column: str) -> list[tuple[str, str]]:
    filled = table[table[column] != ""]
    return list(zip(filled["image"], filled[column], strict=True))


def _published_forms(table: pd.DataFrame, name: str) -> pd.DataFrame:
    if {"class", "id"} <= set(table.columns) and "file" not in table:
        return table.assign(file=table["class"] + " (" + table["id"] + ")").drop(columns=["class", "id"])
    table = table.rename(columns={"filename": "file"} | ({"id": "group"} if "filename" in table else {}))
    if "file" not in table:
        raise StudyError(f"{name}: has no column file; it has {', '.join(table.columns)}")
    return table


def _stem(text: str) -> str:
    """Without the suffix, as copies of a set in another format keep the list's names."""
    return str(PurePosixPath(text.replace("\\", "/")).with_suffix("")) if "." in text else text
