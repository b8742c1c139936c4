"""How long each stage took when it last ran here: one small file each, outside DVC, as equal runs take unequal time."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.files import write_text

DURATIONS = Path(".durations")


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Keeps the time of the block under the stage's name, if it ends well."""
    started = time.perf_counter()
    yield
    record = {"stage": stage, "seconds": round(time.perf_counter() - started, 2)}
    write_text(DURATIONS / f"{slug(stage)}.json", json.dumps(record) + "\n")


def read_durations() -> dict[str, float]:
    """Stage -> seconds, by name."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DURATIONS.glob("*.json"))]
    return {record["stage"]: record["seconds"] for record in records}


def slug(text: str) -> str:
    """As it may stand in a file's name or an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
