"""How long each stage took when it last ran here, and how much memory: one small file each, outside DVC, as equal runs
take unequal time."""

import json
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.files import write_text

DURATIONS = Path(".durations")


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Keeps the time of the block and the memory of this process under the stage's name, if the block ends well."""
    started = time.perf_counter()
    yield
    record = {"stage": stage, "seconds": round(time.perf_counter() - started, 2), "peak_mib": round(_peak_mib())}
    write_text(DURATIONS / f"{slug(stage)}.json", json.dumps(record) + "\n")


def read_durations() -> dict[str, float]:
    """Stage -> seconds, by name."""
    return {record["stage"]: record["seconds"] for record in _records()}


def read_peaks() -> dict[str, float]:
    """MiB of memory by `slug` of the stage."""
    return {slug(record["stage"]): float(record["peak_mib"]) for record in _records() if "peak_mib" in record}


def _records() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(DURATIONS.glob("*.json"))]


def _peak_mib() -> float:
    """Of this process and the largest of its children, pages of mapped files included."""
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes that ru_maxrss counts in
    return (
        sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        * unit
        / 2**20
    )


def slug(text: str) -> str:
    """As it may stand in a file's name or an artifact's key."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
