"""Keys of unfinished work: they hang on all that is given, on the packages and on our own code."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.keys import key_of

ROOT = Path(__file__).parents[1]
PRINT_KEY = "from pipeline.keys import key_of; print(key_of({}, code=('models', 'seeds.py', 'training')))"


def test_the_key_hangs_on_all_that_is_given():
    assert key_of({"seed": 0, "data": "d"}) == key_of({"data": "d", "seed": 0})
    assert key_of({"seed": 0}) != key_of({"seed": 1})
    assert key_of({}) != key_of({}, packages=["lightly"])


@pytest.mark.parametrize(
    ("edited", "is_another"), [("training/loop.py", True), ("seeds.py", True), ("report/page.py", False)]
)
def test_the_key_hangs_on_the_code_that_is_named(edited, is_another, tmp_path):
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline")
    before = printed(tmp_path)
    with (tmp_path / "pipeline" / edited).open("a") as file:
        file.write("# a remark\n")
    assert (printed(tmp_path) != before) == is_another


def printed(folder):
    return subprocess.run([sys.executable, "-c", PRINT_KEY], cwd=folder, capture_output=True, check=True).stdout
