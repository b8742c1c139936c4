"""Which versions may be compared: those tested on the same images, explained on the same and scored by one protocol."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from pipeline.promotion.decision import LeftOut
from pipeline.promotion.registered import Registered, Unusable
from pipeline.report.cells import Cell

UNCALIBRATED = 1.0  # temperature


@dataclass(frozen=True)
class Protocol:
    """All that the scores of heatmaps hang on beside the model and its heatmaps."""

    steps: int
    adaptive: bool
    insertion_substrate: str
    deletion_substrate: str
    unit_px: int
    order: str
    tie_rule: str
    calibrated: bool
    pointing_tolerance_px: int


@dataclass(frozen=True)
class Reference:
    """The version that the others must be comparable with, and why it is that one."""

    version: Registered
    reason: str

    def __str__(self) -> str:
        return f"version {self.version.version.number}, {self.reason}"


def protocol_of(cell: Cell) -> Protocol:
    summary = cell.summary
    return Protocol(
        steps=summary.steps,
        adaptive=summary.adaptive,
        insertion_substrate=summary.insertion_substrate,
        deletion_substrate=summary.deletion_substrate,
        unit_px=summary.unit_px,
        order=summary.order,
        tie_rule=summary.tie_rule,
        calibrated=summary.temperature != UNCALIBRATED,
        pointing_tolerance_px=summary.pointing_tolerance_px,
    )


def comparable(versions: Sequence[Registered | Unusable]) -> tuple[list[Registered], list[LeftOut]]:
    """Those that can be compared with the reference, and the others with the reason."""
    usable = [version for version in versions if isinstance(version, Registered)]
    unusable = [LeftOut(version=v.number, model=v.model, reason=v.reason) for v in versions if isinstance(v, Unusable)]
    if not usable:
        return [], unusable
    reference = reference_of(usable, unusable)
    reasons = {version.version.number: _difference(version, reference) for version in usable}
    other = [
        LeftOut(version=each.version.number, model=each.version.model, reason=reason)
        for each in usable
        if (reason := reasons[each.version.number])
    ]
    return [each for each in usable if not reasons[each.version.number]], [*unusable, *other]


def reference_of(usable: Sequence[Registered], unusable: Sequence[LeftOut]) -> Reference:
    """The newest of those that the study's files hold; without one, the newest that can be judged."""
    if current := [version for version in usable if version.version.is_current]:
        return Reference(max(current, key=_number), "which the study's files hold now")
    newest = max(usable, key=_number)
    passed_over = [each.version for each in unusable if int(each.version) > _number(newest)]
    but = f" (not {', '.join(passed_over)}, which cannot be)" if passed_over else ""
    return Reference(newest, f"the newest that can be judged{but}")


def _number(version: Registered) -> int:
    return int(version.version.number)


def _difference(version: Registered, reference: Reference) -> str:
    """Why the version cannot be compared; empty where it can."""
    one, other = version.version, reference.version.version
    if (one.data_sha256, one.split_sha256) != (other.data_sha256, other.split_sha256):
        return f"tested on other images than {reference}; run the study on its data again"
    if _explained(version) != _explained(reference.version):
        return f"explained on other images than {reference}; run the study with its params again"
    if differences := ", ".join(_protocol_differences(version.cell, reference.version.cell)):
        return f"scored otherwise than {reference}: {differences}; run the study with its params again"
    return ""


def _explained(version: Registered) -> frozenset[int]:
    """Rows of the prepared set."""
    return frozenset(version.cell.heatmaps.rows["predicted"].tolist())


def _protocol_differences(cell: Cell, reference: Cell) -> Iterator[str]:
    """`steps 16, not 32`"""
    ours, theirs = asdict(protocol_of(cell)), asdict(protocol_of(reference))
    return (f"{name} {ours[name]}, not {theirs[name]}" for name in ours if ours[name] != theirs[name])
