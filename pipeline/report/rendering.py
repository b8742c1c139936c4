"""The templates of the page and the cards, and how numbers are written in them."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.clock import duration
from pipeline.report.cells import title_of
from pipeline.report.tables import arrow

MISSING = "–"


@cache
def environment(markup: bool = True) -> Environment:
    """Jinja2's environment over templates/; `markup`: texts are escaped for HTML."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=markup,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not markup,
    )
    made.filters |= {"number": number, "interval": interval, "p": p_value, "duration": duration, "words": words}
    made.filters |= {"title_of": title_of, "arrow": arrow}
    return made


def number(value: float | None, digits: int = 3) -> str:
    """With a true minus sign, or a dash for none."""
    if value is None:
        return MISSING
    shown = round(value, digits) + 0.0  # + 0.0: no minus before a zero
    return f"{shown:.{digits}f}".replace("-", "−")


def interval(found: Mapping[str, float | None], name: str) -> str:
    """The value of a metric with the ends of its interval, where it has them."""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    ends = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return f"{number(found.get(name))}{ends}"


def p_value(p: float | None) -> str:
    """As papers print it."""
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def words(name: str) -> str:
    return name.replace("_", " ")
