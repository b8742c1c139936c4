"""What a flow run shows on its page in the Prefect UI beside its tasks: progress, tables, pictures, pages.

Without a server nothing is shown; the picture of the work never ends the work.
"""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from flows.durations import slug
from flows.monitor import monitor
from pipeline.clock import Account, Pace, percent

PROGRESS_INTERVAL_S = 2
DIGITS = 3  # after the point, in tables


@dataclass
class Progress:
    """Called with what is done and the total: moves a bar in the Prefect UI and says how long it will still take.

    It holds no connection, so that it can be sent to a worker and go on there.
    """

    what: str
    account: Account
    pace: Pace = field(default_factory=Pace)
    bar: UUID | None = None
    shown_s: float = float("-inf")  # when the bar was last moved

    def __call__(self, done: int, total: int) -> None:
        left = self.pace.seconds_left(done, total)
        if monitor.on() and (done == total or time.monotonic() - self.shown_s > PROGRESS_INTERVAL_S):
            self.shown_s = time.monotonic()
            told = f"{self.what}: {self.account.told(done, total, left)}"
            _artifact(lambda artifacts: self._move(artifacts, percent(done, total), told))

    def _move(self, artifacts: Any, share: float, told: str) -> None:
        if self.bar is None:
            self.bar = artifacts.create_progress_artifact(progress=share, key=slug(self.what), description=told)
        else:
            artifacts.update_progress_artifact(artifact_id=self.bar, progress=share, description=told)


def progress_of(what: str, unit: str | None = None, epochs: int | None = None) -> Progress:
    """A callback (done, total) for a pipeline function that tells how far it is.

    Args:
        unit: of what is counted, such as `image`; None: percent are told.
        epochs: where batches of all epochs are counted.
    """
    return Progress(what, Account(unit, epochs))


def show_table(key: str, rows: list[dict[str, Any]], title: str) -> None:
    """A table on the flow run's page; its numbers are rounded, and the files have them in full."""
    shown = [{name: _rounded(value) for name, value in row.items()} for row in rows]
    _artifact(lambda artifacts: artifacts.create_table_artifact(table=shown, key=slug(key), description=title))


def by_name(first: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table, from a value or a row of values for each name; a column that a row lacks stays empty."""
    cells = {name: value if isinstance(value, Mapping) else {"value": value} for name, value in values.items()}
    rows = [{first: name, **with_intervals(value)} for name, value in cells.items()]
    columns = dict.fromkeys(column for row in rows for column in row)
    return [{column: row.get(column, "") for column in columns} for row in rows]


def with_intervals(row: Mapping[str, Any]) -> dict[str, Any]:
    """`{"auc": 0.5, "auc_low": 0.4, "auc_high": 0.6}` as one entry, `0.500 [0.400, 0.600]`."""
    bounded = {name for name in row if {f"{name}_low", f"{name}_high"} <= row.keys()}
    bounds = {f"{name}_{side}" for name in bounded for side in ("low", "high")}
    return {
        name: _interval(value, row[f"{name}_low"], row[f"{name}_high"]) if name in bounded else value
        for name, value in row.items()
        if name not in bounds
    }


def show_picture(key: str, path: Path, title: str) -> None:
    """A small picture on the flow run's page, carried inside the artifact so that no other server is needed.

    As Markdown, for below an image artifact Prefect writes its address, which here is the whole picture in letters.
    """
    kind = "jpeg" if path.suffix in (".jpg", ".jpeg") else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    show_markdown(key, f"![{title}](data:image/{kind};base64,{data})", title)


def show_markdown(key: str, text: str, title: str) -> None:
    """A page of Markdown on the flow run's page."""
    _artifact(lambda artifacts: artifacts.create_markdown_artifact(markdown=text, key=slug(key), description=title))


def _interval(*numbers: float) -> str:
    # + 0.0: no minus zero
    value, low, high = (f"{round(number, DIGITS) + 0.0:.{DIGITS}f}" for number in numbers)
    return f"{value} [{low}, {high}]"


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value


def _artifact(make: Callable[[Any], None]) -> None:
    """Makes a Prefect artifact; the picture of the work must not end the work."""
    if not monitor.on():
        return
    try:
        from prefect import artifacts

        make(artifacts)
    except Exception as error:
        monitor.give_up(error)
