"""Decisions and moves for people: rows for a table, Markdown that reads well in a terminal too, titles."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from pipeline.promotion.change import Change, Holders, Move, Proposal
from pipeline.promotion.decision import Candidate, Decision, Judged
from pipeline.promotion.judging import named
from pipeline.promotion.measurement import Measurement

Row = dict[str, str]


def condition_rows(decision: Decision) -> list[Row]:
    """One for each version and condition."""
    return [_condition_row(candidate, judged) for candidate in decision.candidates for judged in candidate.conditions]


def ranking_rows(decision: Decision) -> list[Row]:
    """One for each version that passes, best first."""
    return [
        {"place": str(place), "version": candidate.version, "model": candidate.model}
        | {metric: with_interval(found) for metric, found in candidate.ranking.items()}
        | {"mean rank": f"{candidate.mean_rank:g}"}
        for place, candidate in enumerate(decision.passing, 1)
    ]


def left_out_rows(decision: Decision) -> list[Row]:
    return [{"version": each.version, "model": each.model, "reason": each.reason} for each in decision.left_out]


def decision_page(decision: Decision) -> str:
    """Every table that has rows, as Markdown."""
    tables = {
        f"Conditions ({decision.model_name}, 95 % intervals, at least {decision.min_images} images)": condition_rows,
        "Ranking of those that pass": ranking_rows,
        "Not judged": left_out_rows,
    }
    found = {title: rows_of(decision) for title, rows_of in tables.items()}
    return "\n".join(f"### {title}\n\n{markdown_table(rows)}" for title, rows in found.items() if rows)


def move_page(move: Move) -> str:
    """The move with who and why and, unless it is a rollback, the decision behind it, as Markdown."""
    told = {"why": move.why, "by": move.by, "at": move.at, "line of the log": move.sha256}
    lines = [f"- {name}: {value}" for name, value in told.items() if value]
    return f"# {title(move)}\n\n{_aliases(move)}\n" + "\n".join(lines) + "\n" + _decision_as_written(move.decision)


def proposal_page(proposal: Proposal) -> str:
    """The decision, then what is to happen to the aliases, as Markdown."""
    outcome = f"Refused: {proposal.refusal}\n" if proposal.refusal else _aliases(proposal)
    decision = f"\n{decision_page(proposal.decision)}" if proposal.decision else ""
    return f"{decision}\n{outcome}".lstrip()


def approval_page(proposal: Proposal) -> str:
    """As `proposal_page`, for a narrow form: what is to happen, a line for each version, then each condition."""
    candidates = proposal.decision.candidates if proposal.decision else ()
    table = markdown_table([_summary_row(each) for each in candidates]) if candidates else ""
    details = "\n".join(f"**Version {each.version} ({each.model})**\n\n{_conditions(each)}" for each in candidates)
    for each in proposal.decision.left_out if proposal.decision else ():
        details += f"\n**Version {each.version} ({each.model})** is not judged: {each.reason}\n"
    return f"## {title(proposal)}\n\n{_aliases(proposal)}\n{table}\n{details}"


def title(change: Change) -> str:
    """`busi champion 2 -> 3`"""
    alias = change.moved_alias
    rolled_back = " (rollback)" if change.action == "rollback" else ""
    return f"{change.dataset} {alias} {_arrow(change, alias)}{rolled_back}"


def _decision_as_written(decision: dict[str, Any] | None) -> str:
    """Its tables; a line where an earlier program wrote it, whose conditions are none of this one's."""
    if decision is None:
        return ""
    try:
        return f"\n{decision_page(Decision.model_validate(decision))}"
    except ValidationError:
        return "\nAn earlier program decided it; decision.json has all that it wrote.\n"


def _aliases(change: Change) -> str:
    """`- champion: 2 -> 3`, for every alias."""
    return "".join(f"- {alias}: {_arrow(change, alias)}\n" for alias in change.after)


def _arrow(change: Change, alias: str) -> str:
    start, end = _number(change.before, alias), _number(change.after, alias)
    return f"{start} -> {end}" if start != end else f"{start} (unchanged)"


def with_interval(found: Measurement) -> str:
    if found.value is None:
        return "–"
    ends = "" if found.low is None or found.high is None else f" [{found.low:.3f}, {found.high:.3f}]"
    return f"{found.value:.3f}{ends}"


def markdown_table(rows: Sequence[Row]) -> str:
    """Columns padded to their widest cell."""
    header = list(rows[0])
    cells = [header, *([row[name].replace("|", "/") for name in header] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(header))]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _condition_row(candidate: Candidate, judged: Judged) -> Row:
    return {
        "version": candidate.version,
        "model": candidate.model,
        "condition": named(judged.condition),
        "value": with_interval(judged.measured),
        "bound": _bound(judged),
        "images": str(judged.measured.images),
        "verdict": "pass" if judged.passed else "fail",
    }


def _summary_row(candidate: Candidate) -> Row:
    met = sum(judged.passed for judged in candidate.conditions)
    return {
        "version": candidate.version,
        "model": candidate.model,
        "conditions met": f"{met} of {len(candidate.conditions)}",
        "mean rank": "–" if candidate.mean_rank is None else f"{candidate.mean_rank:g}",
    }


def _conditions(candidate: Candidate) -> str:
    rows = [_condition_row(candidate, judged) for judged in candidate.conditions]
    lines = (
        f"- {row['verdict']}: {row['condition']} {row['value']}, {row['bound']}, {row['images']} images" for row in rows
    )
    return "".join(f"{line}\n" for line in lines)


def _bound(judged: Judged) -> str:
    condition = judged.condition
    if condition.better_than:
        return "interval > 0"
    return f"≥ {condition.at_least:g}" if condition.at_least is not None else f"≤ {condition.at_most:g}"


def _number(holders: Holders, alias: str) -> str:
    holder = holders.get(alias)
    return holder.version if holder else "none"
