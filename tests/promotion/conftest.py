"""Fixtures of the promotion tests."""

import pytest

from tests.promotion.worlds import made_cell


@pytest.fixture(scope="session")
def cell(tmp_path_factory):
    return made_cell(tmp_path_factory.mktemp("cell"))
