"""The report in plain text, for the end of a run: one line for each cell and method, then the verdicts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import StudyError
from pipeline.records import ORACLE, SWAPPED


def console_table(report_dir: Path) -> str:
    """The report in at most 120 columns of plain text: one line for each cell and method, then the findings.

    Raises:
        StudyError: there is no report in `report_dir`.
    """
    metrics, findings = (_read_json(report_dir / name) for name in ("metrics.json", "findings.json"))
    lines = [_console_line(_CONSOLE_TITLES)]
    for dataset, models in metrics.items():
        for model, found in models.items():
            methods = [name for name, values in found.items() if "insertion_gain" in values and not _is_baseline(name)]
            lines += [_console_line(_console_cells(dataset, model, name, found)) for name in methods]
    return "\n".join([*lines, "", *(f"{each['id']} {each['verdict']}: {each['claim']}"[:120] for each in findings)])


_CONSOLE_METRICS = ("insertion_auc", "deletion_auc", "insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")
_CONSOLE_TITLES = (
    "dataset", "model", "bal.acc ↑", "method",
    "insertion ↑", "deletion ↓", "ins.gain ↑", "del.gain ↑", "pointing ↑", "mass ↑",
)  # fmt: skip
_CONSOLE_WIDTHS = (8, 8, 9, 17, 11, 10, 10, 10, 10, 7)


def _console_line(texts: Sequence[str]) -> str:
    padded = [
        text[:width].ljust(width) if column in (0, 1, 3) else text[:width].rjust(width)
        for column, (text, width) in enumerate(zip(texts, _CONSOLE_WIDTHS, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _console_cells(dataset: str, model: str, method: str, found: dict[str, dict[str, float]]) -> list[str]:
    values = [found[method].get(name) for name in _CONSOLE_METRICS]
    accuracy = found["test"].get("balanced_accuracy")
    return [dataset, model, _number(accuracy, 3), method, *(_number(value, 3) for value in values)]


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus zero


def _is_baseline(name: str) -> bool:
    return name in ("centre", "edge", ORACLE) or name.startswith(("random", SWAPPED))


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run `dvc repro report`") from None
