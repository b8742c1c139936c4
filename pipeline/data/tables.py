"""CSV files that describe or curate a set: read as text, and each row brought to the file that it means."""

import csv
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.errors import StudyError


def find_table(paths: Iterable[PurePosixPath], name: str, shown: str) -> PurePosixPath:
    """The one file of that name; raises StudyError if there is none, or several."""
    found = [path for path in paths if path.name.casefold() == name.casefold()]
    if len(found) != 1:
        where = f"{len(found)} files are" if found else "no file is"
        raise StudyError(f"{shown}: {where} called {name}; give its path in params.yaml")
    return found[0]


def read_table(path: Path) -> pd.DataFrame:
    """All cells as text, without the spaces around them; columns in lower case, separated by commas or semicolons.

    Raises:
        StudyError: it is no such table, is not UTF-8, or has a column twice.
    """
    try:
        head = path.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = ";" if head.count(";") > head.count(",") else ","
        columns = [column.strip().lower() for column in next(csv.reader([head], delimiter=separator), [])]
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise StudyError(f"{path}: not a CSV table in UTF-8 ({str(error).splitlines()[0]})") from None
    if doubles := sorted({column for column in columns if columns.count(column) > 1}):
        raise StudyError(f"{path}: has the column {doubles[0]} twice")
    table.columns = pd.Index(columns)
    return table.apply(lambda column: column.str.strip())


class FileNames:
    """Finds the file that a table means: by the end of its path, with or without suffix, however accents are spelt."""

    def __init__(self, paths: Iterable[PurePosixPath]) -> None:
        self._whole: dict[str, PurePosixPath] = {}
        self._ends: dict[str, list[PurePosixPath]] = {}
        for path in paths:
            self._whole[_spelling(str(path))] = path
            for ending in (path, path.with_suffix("")):
                for start in range(len(ending.parts)):
                    self._ends.setdefault(_spelling("/".join(ending.parts[start:])), []).append(path)

    def find(self, text: str, shown: str) -> PurePosixPath | None:
        """The file, None if there is none; raises StudyError if the text fits several."""
        key = _spelling(str(PurePosixPath(text.replace("\\", "/"))))
        if key in self._whole:
            return self._whole[key]
        found = self._ends.get(key, [])
        if len(found) > 1:
            raise StudyError(f"{shown}: {text} may be {found[0]} or {found[1]}; write the path")
        return found[0] if found else None


def _spelling(text: str) -> str:
    return unicodedata.normalize("NFC", text)
