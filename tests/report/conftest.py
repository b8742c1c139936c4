"""Fixtures of the report's tests: a made-up study to read, and a copy to spoil."""

import shutil
from pathlib import Path

import pytest

from tests.report.made_study import CLASSES, SIDE, Study, make_study  # noqa: F401


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two datasets, busi with masks and pbc without, by two models; not to be written to."""
    data = tmp_path_factory.mktemp("study") / "data"
    return make_study(data, ("pbc", "busi"), ("vit", "dino"), images=48)


@pytest.fixture(scope="session")
def report(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the made-up study's report; not to be written to."""
    return study.write_report(tmp_path_factory.mktemp("page") / "report").parent


@pytest.fixture
def own_study(study: Study, tmp_path: Path) -> Study:
    """A copy that the test may change."""
    shutil.copytree(study.data, tmp_path / "data")
    return Study(tmp_path / "data", study.datasets, study.models)
