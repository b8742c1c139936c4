"""What every publication needs: where files came from, and flat params."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipeline.files import told
from pipeline.runs import COMMIT

YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the lock file is long; in C it is read in a tenth


@dataclass(frozen=True)
class Context:
    """What a run tells about where its files came from, beyond the files."""

    git_commit: str | None = None
    dvc_lock: Path | None = None
    has_changes: bool = False  # files differ from the commit
    data_revisions: Mapping[str, str] = field(default_factory=dict)  # DVC's hash of data -> a commit that holds it

    @property
    def told_commit(self) -> str | None:
        return f"{self.git_commit}, with changes" if self.git_commit and self.has_changes else self.git_commit

    @cached_property
    def dvc_md5s(self) -> dict[Path, str]:
        """The hash under which DVC keeps each output; empty where there is no lock file."""
        if self.dvc_lock is None or not self.dvc_lock.is_file():
            return {}
        lock = yaml.load(self.dvc_lock.read_text(encoding="utf-8"), Loader=YAML_LOADER) or {}
        outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", [])]
        return {(self.dvc_lock.parent / out["path"]).resolve(): out["md5"] for out in outs if "md5" in out}


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
    return ", ".join(map(as_text, value)) if isinstance(value, tuple) else told(str(value))


def commit_tag(context: Context) -> dict[str, str]:
    return {COMMIT: context.git_commit} if context.git_commit else {}


def epochs(rows: Iterable[Mapping[Any, float | int]]) -> list[tuple[str, int, float]]:
    return [(str(name), int(row["epoch"]), float(row[name])) for row in rows for name in row if name != "epoch"]
