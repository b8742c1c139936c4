"""What a flow run shows on its page in the Prefect UI beside its tasks: progress, tables, pictures, pages.

Without a server nothing is shown; the picture of the work never ends the work.
"""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.durations import slug
from flows.monitor import monitor

PROGRESS_INTERVAL_S = 2


def progress_of(what: str) -> Callable[[int, int], None]:
    """A callback (done, total) that moves a progress bar in the Prefect UI; does nothing without a server."""
    state: dict[str, Any] = {"shown": 0.0}

    def show(done: int, total: int) -> None:
        if monitor.on() and (done == total or time.monotonic() - state["shown"] > PROGRESS_INTERVAL_S):
            state["shown"] = time.monotonic()
            _artifact(lambda artifacts: _move_bar(artifacts, state, what, 100 * done / max(total, 1)))

    return show


def show_table(key: str, rows: list[dict[str, Any]], title: str) -> None:
    """A table on the flow run's page."""
    _artifact(lambda artifacts: artifacts.create_table_artifact(table=rows, key=slug(key), description=title))


def show_picture(key: str, path: Path, title: str) -> None:
    """A small picture on the flow run's page, carried inside the artifact so that no other server is needed."""
    kind = "jpeg" if path.suffix in (".jpg", ".jpeg") else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    url = f"data:image/{kind};base64,{data}"
    _artifact(lambda artifacts: artifacts.create_image_artifact(image_url=url, key=slug(key), description=title))


def show_markdown(key: str, text: str, title: str) -> None:
    """A page of Markdown on the flow run's page."""
    _artifact(lambda artifacts: artifacts.create_markdown_artifact(markdown=text, key=slug(key), description=title))


def _artifact(make: Callable[[Any], None]) -> None:
    """Makes a Prefect artifact; the picture of the work must not end the work."""
    if not monitor.on():
        return
    try:
        from prefect import artifacts

        make(artifacts)
    except Exception as error:
        monitor.give_up(error)


def _move_bar(artifacts: Any, state: dict[str, Any], what: str, percent: float) -> None:
    if "id" in state:
        artifacts.update_progress_artifact(artifact_id=state["id"], progress=percent)
    else:
        state["id"] = artifacts.create_progress_artifact(progress=percent, key=slug(what), description=what)
