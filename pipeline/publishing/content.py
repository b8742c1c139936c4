"""What every publication needs: where files came from, and flat params."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.runs import COMMIT


@dataclass(frozen=True)
class Context:
    """What a run tells about where its files came from, beyond the files."""

    git_commit: str | None = None
    dvc_lock: Path | None = None  # read for the hash that DVC gives the prepared data


@dataclass(frozen=True)
class Published:
    """Where a cell, or the report, is found in MLflow; `created` is False where it was in step already."""

    subject: str  # `busi-dino`, `study`
    experiment: str
    run_id: str
    created: bool
    model_name: str | None = None  # None for the report
    version: str | None = None
    model_id: str | None = None  # of the logged model behind the version
    repaired: tuple[str, ...] = ()  # what somebody had changed, and was set right


def flat(nested: Mapping, separator: str) -> Iterator[tuple[str, Any]]:
    """Every leaf under its joined keys."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from ((f"{key}{separator}{rest}", leaf) for rest, leaf in flat(value, separator))
        else:
            yield str(key), value


def as_text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def commit_tag(context: Context) -> dict[str, str]:
    return {COMMIT: context.git_commit} if context.git_commit else {}


def epochs(rows: Iterable[Mapping[Any, float | int]]) -> list[tuple[str, int, float]]:
    return [(str(name), int(row["epoch"]), float(row[name])) for row in rows for name in row if name != "epoch"]
