"""Tests against real servers run when they are asked for, and the store that they share."""

import os
from unittest import mock

import pytest

from tests.cells import PublishedStudy, make_finished_study
from tests.services.stores import STORES


@pytest.fixture(scope="session", autouse=True)
def _asked_for():
    if os.environ.get("SERVICES") != "1":
        pytest.skip("runs with `make test-services`, which installs and starts real servers")


@pytest.fixture(scope="module", params=STORES)
def study(request, tmp_path_factory):
    """A finished study, published once; the store is the one of the environment while its tests run."""
    folder = tmp_path_factory.mktemp("checkout")
    with STORES[request.param](folder) as variables, mock.patch.dict(os.environ, variables):
        study = PublishedStudy(folder)
        make_finished_study(study.data)
        study.publish()
        yield study
