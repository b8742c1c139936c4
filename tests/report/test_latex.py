"""LaTeX tables: what stands in them, and that LaTeX takes them."""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from pipeline.report.latex import LONG, latex_table

TABLE = pd.DataFrame(
    {
        "method": ["gradcam_&_more", "50 % {b}"],
        "gain": [-0.1234, None],
        "gain_low": [-0.2, None],
        "gain_high": [-0.1, None],
        "images": [40, 7],
        "empty": [None, None],
    }
)


def test_an_interval_stands_behind_its_mean_and_the_best_is_bold() -> None:
    text = latex_table(TABLE, "gains", {"gain": "↑"}, pd.DataFrame({"gain": [True, False]}))
    assert "\\textbf{$-$0.123 ($-$0.200 to $-$0.100)}" in text
    assert "gain $\\uparrow$" in text
    assert "\\begin{tabular}{lrr}" in text  # neither the ends nor the empty column


def test_signs_that_mean_something_to_latex_are_escaped_and_missing_values_are_a_dash() -> None:
    text = latex_table(TABLE, "gains", {})
    assert "gradcam\\_\\&\\_more" in text
    assert "50 \\% \\{b\\} & -- & 7" in text


def test_a_long_table_may_break_over_pages() -> None:
    assert "longtable" in latex_table(pd.DataFrame({"row": range(LONG + 1)}), "rows", {})


def test_a_table_without_rows_is_still_one() -> None:
    assert "\\bottomrule" in latex_table(TABLE.iloc[:0], "gains", {})


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_every_table_of_a_report_is_taken_by_latex(report: Path, tmp_path: Path) -> None:
    inputs = [f"\\input{{{path}}}" for path in sorted((report / "tables").glob("*.tex"))]
    head = ["\\documentclass{article}", "\\usepackage{booktabs,longtable}", "\\begin{document}"]
    (tmp_path / "paper.tex").write_text("\n".join([*head, *inputs, "\\end{document}"]))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
