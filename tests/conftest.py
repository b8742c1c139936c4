"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

SAMPLES = Path(os.environ.get("STUDY_SAMPLES", Path(__file__).parents[2] / "shared" / "samples"))


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder of real sample images; tests that need it skip on machines without it."""
    if not SAMPLES.is_dir():
        pytest.skip(f"no sample images at {SAMPLES}; set STUDY_SAMPLES")
    return SAMPLES
