"""Fixtures of the tests of the audit's page: a made-up set, and a copy to spoil."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory):
    """Not to be written to, but for its audit."""
    from tests.report.audit_page.world import make_world  # not at the top: read before the run-time type check is on

    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def own_world(world, tmp_path: Path):
    """A copy that the test may change."""
    shutil.copytree(world.folder, tmp_path / "own")
    return type(world)(tmp_path / "own")
