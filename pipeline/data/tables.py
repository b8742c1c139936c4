"""CSV files that describe or curate a set: read as text, and each row brought to the file that it means."""

import csv
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.data.names import folded, spelling, without_suffix
from pipeline.errors import StudyError
from pipeline.files import is_absolute

SEPARATORS = ",;\t"  # the first of equally many counts
DRIVE = re.compile(r"[A-Za-z]:")


def find_table(paths: Iterable[PurePosixPath], name: str, shown: str) -> PurePosixPath:
    """The one file of that name; raises StudyError if there is none, or several."""
    found = [path for path in paths if path.name.casefold() == name.casefold()]
    if len(found) != 1:
        where = f"{len(found)} files are" if found else "no file is"
        raise StudyError(f"{shown}: {where} called {name}; give its path in params.yaml")
    return found[0]


def read_table(path: Path) -> pd.DataFrame:
    """All cells as text, without the spaces around them, and no blank rows; columns in lower case.

    Columns are separated by commas, semicolons or tabs, whichever the header has most of.

    Raises:
        StudyError: it is no such table, is not UTF-8, has a column twice, or a row with more cells than columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(_rows(text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path.name}: not a CSV table in UTF-8 ({error}); save it as one") from None
    if not rows:
        raise StudyError(f"{path.name}: not a CSV table in UTF-8 (it is empty); save it as one")
    columns = [column.lower() for column in rows[0][1]]
    if doubles := sorted({column for column in columns if column and columns.count(column) > 1}):
        raise StudyError(f"{path.name}: has the column {doubles[0]} twice")
    return pd.DataFrame([_filled(line, cells, columns, path.name) for line, cells in rows[1:]], columns=columns)


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the number of its last line."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(SEPARATORS, key=head.count), strict=True)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if any(cells):
            yield reader.line_num, cells


def _filled(line: int, cells: list[str], columns: list[str], shown: str) -> list[str]:
    """A cell for each column; spreadsheets leave out empty ones at the end, or add some."""
    if any(cells[len(columns) :]):
        raise StudyError(
            f"{shown}: line {line} has {len(cells)} cells, but there are {len(columns)} columns; put a cell that holds "
            "the separator in double quotes"
        )
    return (cells + [""] * len(columns))[: len(columns)]


class FileNames:
    """Finds the file that a table means, with or without an image's suffix, however case and accents are spelt.

    A text means the file whose path ends as it does, or that ends it; the end that both share is all that counts of an
    absolute path, since that is one of another machine.
    """

    def __init__(self, paths: Iterable[PurePosixPath]) -> None:
        self._ends: dict[str, dict[PurePosixPath, None]] = {}  # sets that keep their order
        self._folded: dict[str, dict[PurePosixPath, None]] = {}  # whatever the case
        for path in paths:
            for ending in (path, without_suffix(path)):
                for start in range(len(ending.parts)):
                    end = spelling("/".join(ending.parts[start:]))
                    self._ends.setdefault(end, {})[path] = None
                    self._folded.setdefault(end.casefold(), {})[path] = None

    def find(self, text: str, shown: str) -> PurePosixPath | None:
        """The file, None if there is none; raises StudyError if the text fits several."""
        parts = _parts(text)
        for start in range(len(parts)):
            end = spelling("/".join(parts[start:]))
            found = self._ending(end)
            if start and not is_absolute(text):
                found = _whole(found, end)
            if len(found) > 1:
                raise StudyError(f"{shown}: {text} may be {found[0]} or {found[1]}; write the path")
            if found:
                return found[0]
        return None

    def _ending(self, end: str) -> list[PurePosixPath]:
        """The files whose path ends so, in this case or else in any; of these those that the text names whole."""
        found = list(self._ends.get(end) or self._folded.get(end.casefold()) or ())
        return _whole(found, end) or found


def _whole(paths: Iterable[PurePosixPath], text: str) -> list[PurePosixPath]:
    """Those that the text names from their first folder on."""
    wanted = text.casefold()
    return [path for path in paths if wanted in (folded(str(path)), folded(str(without_suffix(path))))]


def _parts(text: str) -> tuple[str, ...]:
    """Folders and name, in either style of slashes, without what says where a path begins."""
    parts = PurePosixPath(text.replace("\\", "/")).parts
    return tuple(part for part in parts if part.strip("/") not in ("", "..", "~") and not DRIVE.fullmatch(part))
