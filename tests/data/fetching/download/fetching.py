"""A file to download, and how the tests ask for it: quickly, and under one key of params.yaml."""

import random
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.data.fetching.download import Download, Patience, download
from pipeline.errors import StudyError
from tests.data.fetching.file_server import FileServer
from tests.data.fetching.test_unpack import zipped
from tests.data.sets import ignore

CONTENT = zipped({"benign/a.png": random.Random(0).randbytes(60_000)})
OTHER = zipped({"benign/a.png": random.Random(1).randbytes(60_000)})
SHA256, OTHER_SHA256 = (sha256(content).hexdigest() for content in (CONTENT, OTHER))
SIZE = len(CONTENT)
QUICK = Patience(connect_s=5.0, read_s=10.0, first_wait_s=0.01, longest_wait_s=0.05, tries_to_begin=2, tries=3)


def fetch(
    where: FileServer | str,
    digest: str | None = None,
    size_bytes: int | None = None,
    progress=ignore,
    patience: Patience = QUICK,
    hint: str = "",
) -> Download:
    url = where if isinstance(where, str) else where.url()
    return download(url, digest, size_bytes, "datasets.busi", progress, hint, patience)


def refused(where: FileServer | str, message: str, digest: str | None = None, size_bytes: int | None = None) -> str:
    """What the user reads: one line that begins with the key."""
    with pytest.raises(StudyError, match=message) as caught:
        fetch(where, digest, size_bytes)
    assert str(caught.value).startswith("datasets.busi.")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(cache: Path) -> set[str]:
    """Files of the cache but for its locks."""
    return {path.name for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"}
