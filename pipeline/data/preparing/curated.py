"""A list that others made of a set's images: which are one picture, which are disputed, which to keep.

One CSV file with a column `file` (also `filename`; or `class` and `id`, which name `benign (12)`) and any of:
    group (also `id` beside `filename`)   images of equal value share a group, and so one side of the split; a file may
                                          stand in several rows, each with another group, as in a list of pairs
    objection                             kept, and flagged in the audit with this text
    drop                                  left out where it says so; another text than yes is the reason
    keep                                  kept where it says so; all other images are left out
A list whose only column is the file names the images to keep. Of `drop` and `keep`, an empty cell, no, 0 and false
mean no.

So the table of Pawłowska et al. (2023) on BUSI (ID; Filename; Objection; Annotation) and the list of Curated BUSI
(class; id) are taken as published.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.names import list_files, without_suffix
from pipeline.data.tables import FileNames, find_table, read_table
from pipeline.errors import StudyError
from pipeline.records import Dropped

log = logging.getLogger(__name__)

UNDERSTOOD = ("group", "objection", "drop", "keep")
NO = ("", "no", "0", "false")


@dataclass(frozen=True)
class Curation:
    """What the list says, by file; empty where there is none."""

    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    objections: tuple[Dropped, ...] = ()
    left_out: tuple[Dropped, ...] = ()
    unknown: tuple[Dropped, ...] = ()  # one entry, under the list's own name, if it names files that the set lacks

    def objections_to(self, files: Iterable[str]) -> tuple[Dropped, ...]:
        """Those that concern the files, and what is to be said of the list itself."""
        wanted = set(files)
        return (*(entry for entry in self.objections if entry.file in wanted), *self.unknown)


def read_curation(folder: Path, files: Sequence[str], name: str, shown: str) -> Curation:
    """The list `name` of the folder, applied to the images `files`.

    Raises:
        StudyError: it is absent, has no column that is understood, or names no image of the set.
    """
    path = folder / find_table(list_files(folder, shown), name, shown)
    table = _published_forms(read_table(path), path.name)
    _check_columns(table, path.name)
    images = _images_of(table["file"], files, path.name)
    listed = table.assign(image=images)
    known = listed[listed["image"] != ""]
    if known.empty:
        instead = f", but for example {table['file'].iloc[0]}" if len(table) else ""
        raise StudyError(f"{path.name}: names no image of the set{instead}")
    return Curation(
        groups={file: frozenset(groups) for file, groups in _said(known, "group").items()},
        objections=_entries(_said(known, "objection"), f"{path.name}: "),
        left_out=_left_out(known, files, path.name),
        unknown=_unknown(listed.loc[listed["image"] == "", "file"].tolist(), path.name),
    )


def _images_of(texts: Iterable[str], files: Sequence[str], name: str) -> list[str]:
    """The image that each text names, also if the copy at hand has another format; empty if there is none."""
    names = FileNames(map(PurePosixPath, files))
    found = (names.find(text, name) or names.find(_without_suffix(text), name) for text in texts)
    return [str(file or "") for file in found]


def _without_suffix(text: str) -> str:
    return str(without_suffix(PurePosixPath(text.replace("\\", "/"))))


def _check_columns(table: pd.DataFrame, name: str) -> None:
    others = [column for column in table.columns if column != "file"]
    if others and not {*others} & {*UNDERSTOOD}:
        raise StudyError(
            f"{name}: besides file it has {', '.join(others)}, none of which is understood; {', '.join(UNDERSTOOD)} "
            "are, and file alone names the images to keep"
        )


def _said(known: pd.DataFrame, column: str) -> dict[str, list[str]]:
    """What the filled cells of the column say of each image, each once."""
    said: dict[str, dict[str, None]] = {}
    if column in known:
        filled = known[known[column] != ""]
        for file, text in zip(filled["image"], filled[column], strict=True):
            said.setdefault(file, {})[text] = None
    return {file: list(texts) for file, texts in said.items()}


def _entries(said: dict[str, list[str]], before: str) -> tuple[Dropped, ...]:
    return tuple(Dropped(file=file, reason=before + "; ".join(texts)) for file, texts in said.items())


def _left_out(known: pd.DataFrame, files: Sequence[str], name: str) -> tuple[Dropped, ...]:
    dropped = _said(known[~_is_no(known, "drop")], "drop")
    kept = {*files}
    if "keep" in known:
        kept = {*known.loc[~_is_no(known, "keep"), "image"]}
    elif not {*UNDERSTOOD} & {*known.columns}:
        kept = {*known["image"]}
    others = sorted({*files} - kept - dropped.keys())
    not_kept = (Dropped(file=file, reason=f"not among the images that {name} keeps") for file in others)
    return (*_entries(dropped, f"left out by {name}: "), *not_kept)


def _is_no(table: pd.DataFrame, column: str) -> pd.Series:
    return table[column].str.lower().isin(NO) if column in table else pd.Series(True, index=table.index)


def _unknown(texts: Sequence[str], name: str) -> tuple[Dropped, ...]:
    if not texts:
        return ()
    rows = "1 row names" if len(texts) == 1 else f"{len(texts)} rows name"
    reason = f"{rows} no image of the set that can be read, for example {texts[0] or 'an empty cell'}"
    log.warning("%s: %s", name, reason)
    return (Dropped(file=name, reason=reason),)


def _published_forms(table: pd.DataFrame, name: str) -> pd.DataFrame:
    if {"class", "id"} <= set(table.columns) and "file" not in table:
        return table.assign(file=table["class"] + " (" + table["id"] + ")").drop(columns=["class", "id"])
    if "filename" in table and "file" not in table:
        table = table.rename(columns={"filename": "file"} | ({} if "group" in table else {"id": "group"}))
    if "file" not in table:
        raise StudyError(f"{name}: has no column file; it has {', '.join(table.columns)}")
    return table
