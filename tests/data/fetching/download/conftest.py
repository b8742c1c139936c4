"""A cache of the test's own, and a server that speaks https; everything else of the surroundings is shut out."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.data.fetching.file_server import certificate

    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pem: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """The test's own; no proxy, and no certificates but the test server's."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("DATASET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    caplog.set_level("DEBUG")
    return tmp_path / "cache"


@pytest.fixture
def server(pem: Path):
    """Speaks https and gives the file, unless a test sets other answers."""
    from tests.data.fetching.download.fetching import CONTENT  # not at the top: see tests/conftest.py
    from tests.data.fetching.file_server import context_of, gives, serving

    with serving(gives(CONTENT), context=context_of(pem)) as started:
        yield started
