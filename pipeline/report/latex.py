"""Tables for a paper: LaTeX with booktabs, a mean and its interval in one cell, the best in bold."""

import pandas as pd

from pipeline.report.evidence import ENDS

LONG = 45  # rows beyond which a table may break over pages
DIGITS = 3
SPECIAL = {sign: f"\\{sign}" for sign in "&%$#_{}"}
SPECIAL |= {"^": "\\textasciicircum{}", "²": "$^2$", "±": "$\\pm$", "~": "\\textasciitilde{}"}
MISSING = "--"


def latex_table(table: pd.DataFrame, name: str, arrows: dict[str, str], best: pd.DataFrame | None = None) -> str:
    """The table as a `table` or, if long, a `longtable` environment; it needs booktabs, and longtable if long.

    Args:
        arrows: ↑ or ↓ for the columns where more, or less, is better.
        best: True where a value is to be bold, by the table's columns.
    """
    texts = _compact(table)
    styler = texts.style.hide(axis="index")
    if best is not None:
        marks = best.reindex(index=texts.index, columns=texts.columns, fill_value=False)
        styler = styler.apply(lambda _: marks.replace({True: "textbf:--rwrap;", False: ""}), axis=None)
    styler = styler.format_index(lambda column: _header(str(column), arrows), axis="columns")
    long = len(texts) > LONG
    return styler.to_latex(
        hrules=True,
        column_format="".join("r" if pd.api.types.is_numeric_dtype(table[column]) else "l" for column in texts),
        environment="longtable" if long else None,
        position=None if long else "htbp",
        position_float=None if long else "centering",
        caption=f"{_escaped(name.replace('_', ' ').capitalize())}. Means, with 95 \\% intervals in brackets.",
        label=f"tab:{name}",
    )


def _compact(table: pd.DataFrame) -> pd.DataFrame:
    """Cells as text; the ends of an interval stand behind their mean, columns without any value are left out."""
    held = table.dropna(axis=1, how="all") if len(table) else table
    columns = [str(column) for column in held if not str(column).endswith(ENDS)]
    return pd.DataFrame({column: _texts(held, column) for column in columns}, index=table.index)


def _texts(table: pd.DataFrame, column: str) -> list[str]:
    values = [_p_text(value) if column.split("_")[0] == "p" else _text(value) for value in table[column]]
    low, high = (f"{column}{end}" for end in ENDS)
    if low not in table:
        return values
    ends = zip(table[low], table[high], strict=True)
    return [
        value if pd.isna(first) else f"{value} ({_text(first)} to {_text(last)})"
        for value, (first, last) in zip(values, ends, strict=True)
    ]


def _text(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return MISSING
    if not isinstance(value, float):
        return _escaped(str(value))
    shown = f"{round(value, DIGITS) + 0.0:.{DIGITS}f}"  # + 0.0: no minus before a zero
    return shown.replace("-", "$-$")


def _p_text(p: float | None) -> str:
    return "$<$0.001" if p is not None and p < 0.001 else _text(p)


def _header(column: str, arrows: dict[str, str]) -> str:
    arrow = {"↑": " $\\uparrow$", "↓": " $\\downarrow$"}.get(arrows.get(column, ""), "")
    return _escaped(column.replace("_", " ")) + arrow


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\textbackslash ")
    for sign, code in SPECIAL.items():
        text = text.replace(sign, code)
    return text
