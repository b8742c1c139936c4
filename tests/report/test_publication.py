"""The published page is the report's page with its publication filled in."""

import shutil
from pathlib import Path

import pytest

from pipeline.errors import StudyError
from pipeline.report.publication import Publication, VersionLink, write_published

pytestmark = pytest.mark.slow

LINK = VersionLink(
    "busi-dino", "busi-classifier", "3", "http://127.0.0.1:5000/#/models/busi-classifier/versions/3", "#r"
)
FACTS = Publication("c0ffee", [LINK], {"report": 4.25, "finetune busi-dino": 75.0})


@pytest.fixture
def own_report(report: Path, tmp_path: Path) -> Path:
    """A copy that the test may write to."""
    return shutil.copytree(report, tmp_path / "report")


def test_versions_commit_and_times_are_filled_in_and_nothing_else_changes(own_report: Path) -> None:
    plain = (own_report / "report.html").read_text(encoding="utf-8")
    published = write_published(own_report, FACTS).read_text(encoding="utf-8")
    assert f'href="{LINK.version_url}">busi-classifier, version 3</a>' in published
    assert "<code>c0ffee</code>" in published
    assert "<td>1 min 15 s</td>" in published
    start, end = plain.index("<!-- publication -->"), len(plain) - plain.index("<!-- /publication -->")
    assert published.startswith(plain[:start])
    assert published.endswith(plain[-end:])
    assert (own_report / "report.html").read_text(encoding="utf-8") == plain


def test_outside_git_the_page_says_so(own_report: Path) -> None:
    facts = Publication(None, [LINK], {})
    assert "Published outside git" in write_published(own_report, facts).read_text(encoding="utf-8")


def test_an_absent_or_foreign_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="dvc repro report"):
        write_published(tmp_path, FACTS)
    (tmp_path / "report.html").write_text("<p>another page</p>")
    with pytest.raises(StudyError, match="dvc repro -f report"):
        write_published(tmp_path, FACTS)
