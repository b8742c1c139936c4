"""The page with what is known only after publishing: versions and runs in MLflow, the commit, the time taken.

report.html holds none of these, so that equal inputs give equal bytes; index.html, the one to open, is the same page
with them filled in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.files import write_text
from pipeline.report.rendering import environment

START, END = "<!-- publication -->", "<!-- /publication -->"
PLAIN, PUBLISHED = "report.html", "index.html"


@dataclass(frozen=True)
class VersionLink:
    """Where a cell is found in MLflow."""

    cell: str
    model_name: str
    version: str
    version_url: str
    run_url: str


@dataclass(frozen=True)
class Publication:
    commit: str | None
    versions: Sequence[VersionLink]
    seconds: Mapping[str, float]  # stage -> how long its last run took here; what DVC restored has none


def write_published(report_dir: Path, publication: Publication) -> Path:
    """index.html written anew from report.html.

    Raises:
        StudyError: there is no page, or it has no place for a publication.
    """
    page = report_dir / PLAIN
    if not page.is_file():
        raise StudyError(f"{page}: no such file; run `dvc repro report`")
    before, start, rest = page.read_text(encoding="utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise StudyError(f"{page}: not a page of this version of the report; run `dvc repro -f report`")
    facts = environment().get_template("publication.html").render(publication=publication)
    write_text(report_dir / PUBLISHED, f"{before}{START}{facts}{END}{after}")
    return report_dir / PUBLISHED
