"""Which version gets which alias: what a decision, or a rollback, makes of the aliases as they are."""

import re
from dataclasses import dataclass

from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.change import CHALLENGER, CHAMPION
from pipeline.promotion.decision import Candidate, Decision

RESERVED = re.compile(r"latest|v\d+", re.IGNORECASE)

Wanted = dict[str, str | None]  # alias -> version; None: no version has it


@dataclass(frozen=True)
class Request:
    """The alias to give, to the best version that passes or to one version, which must pass."""

    alias: str
    version: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z][\w-]*", self.alias, re.ASCII) or RESERVED.fullmatch(self.alias):
            raise StudyError(f"alias {self.alias!r}: use letters, digits, - and _, but neither `latest` nor `v1`")


def planned(decision: Decision, before: Wanted, request: Request) -> Wanted:
    """The aliases as they are to be; no version gets both champion and challenger.

    Args:
        before: champion, challenger and the alias asked for.

    Raises:
        RefusalError: no version that may have the alias passes, or not the one asked for.
        StudyError: there is no such version.
    """
    chosen = _chosen(decision, before, request)
    if request.alias != CHAMPION:
        return {**before, request.alias: chosen}
    return {CHAMPION: chosen, CHALLENGER: _challenger(decision, before, request, chosen)}


def _chosen(decision: Decision, before: Wanted, request: Request) -> str:
    champion = before[CHAMPION] if request.alias == CHALLENGER else None
    if request.version is not None:
        if request.version == champion:
            raise RefusalError(f"{decision.model_name}: version {champion} is champion, it cannot be challenger too")
        return _passing_version(decision, request.version).version
    for candidate in decision.passing:
        if candidate.version != champion:
            return candidate.version
    raise RefusalError(f"{decision.model_name}: no version passes for {request.alias}; {_reasons(decision, champion)}")


def _challenger(decision: Decision, before: Wanted, request: Request, champion: str) -> str | None:
    """The next best; beside a version that was asked for, the one it was, or the champion that it displaces."""
    passing = [candidate.version for candidate in decision.passing]
    if request.version is None:
        return passing[1] if len(passing) > 1 else None
    if before[CHALLENGER] != champion:
        return before[CHALLENGER]
    return before[CHAMPION] if before[CHAMPION] in passing and before[CHAMPION] != champion else None


def _passing_version(decision: Decision, number: str) -> Candidate:
    for candidate in decision.candidates:
        if candidate.version == number:
            if not candidate.passed:
                raise RefusalError(f"{decision.model_name}: version {number} fails {candidate.why_not}")
            return candidate
    for left_out in decision.left_out:
        if left_out.version == number:
            raise RefusalError(f"{decision.model_name}: version {number} cannot be judged: {left_out.reason}")
    known = sorted(
        [*(each.version for each in decision.candidates), *(each.version for each in decision.left_out)], key=int
    )
    raise StudyError(f"{decision.model_name}: no version {number}; it has {', '.join(known) or 'none'}")


def _reasons(decision: Decision, champion: str | None) -> str:
    failing = [f"version {each.version} fails {each.why_not}" for each in decision.candidates if not each.passed]
    left_out = [f"version {each.version} cannot be judged: {each.reason}" for each in decision.left_out]
    taken = [f"version {champion} is champion"] if champion else []
    return " | ".join([*taken, *failing, *left_out]) or "it has no versions; run `dvc repro publish`"
