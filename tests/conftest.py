"""Fixtures that every test may use."""

import os
from pathlib import Path
from unittest import mock

import pytest

SAMPLES = Path(os.environ.get("STUDY_SAMPLES", Path(__file__).parents[2] / "shared" / "samples"))

LONGEST = (
    "test_data_versions.py",
    "test_end_to_end.py",
    "test_disk_full.py",
    "test_study_run.py",
    "test_engine.py",
    "test_monitor.py",
    "test_runner.py",
    "test_training_processes.py",
    "test_page.py",
    "test_scoring.py",
    "test_training.py",
    "test_own_set.py",
    "test_shortcut.py",
)


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real sample images; tests that need it skip on machines without it."""
    if not SAMPLES.is_dir():
        pytest.skip(f"no sample images at {SAMPLES}; set STUDY_SAMPLES")
    return SAMPLES


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take longest, so that no process is left alone with one of them in the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """Of an MLflow store that is the module's own and, while it runs, the one in use."""
    from pipeline import tracking  # not at the top: conftest is read before the run-time type check is in place

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"}):
        yield tracking.open_store()


@pytest.fixture(scope="module")
def prefect_api(tmp_path_factory):
    """The address of a Prefect server that is the module's own."""
    from flows import servers
    from tests.ports import free_port

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("server"))
        servers.start(servers.SERVERS["prefect"], free_port())
        yield str(servers.address_of("prefect"))
        servers.stop(servers.SERVERS["prefect"])


@pytest.fixture(scope="module")
def shelved(tmp_path_factory):
    """A finished study after `dvc push` to a folder, which its commit names."""
    from tests.machines import shelved_machine

    return shelved_machine(tmp_path_factory)


@pytest.fixture
def second(shelved, tmp_path):
    """Another machine, which has neither the source nor a cache."""
    from tests.machines import clone_of

    return clone_of(shelved, tmp_path / "second")


@pytest.fixture
def experiment(client, request):
    """One for each test."""
    from pipeline import tracking

    return tracking.experiment_id(client, request.node.name)
