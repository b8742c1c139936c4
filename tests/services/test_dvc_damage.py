"""What DVC itself does with damage, in its cache and in a folder as remote: docs/data.md builds on it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.machines import (
    CHECKPOINT,
    contents,
    copy_of,
    damaged,
    object_name,
    status,
)
from tests.study import ROOT, Study

pytestmark = pytest.mark.slow


def test_damage_that_dvc_overlooks_is_found_by_the_line_of_the_page(second: Study) -> None:
    """Where nothing is overlooked any more, the line in docs/data.md is no longer needed."""
    second.run("dvc", "pull", "finetune")
    content = (second.folder / CHECKPOINT).read_bytes()
    cached = second.folder / ".dvc/cache" / object_name(content)
    told = status(second, "finetune")
    assert check_by_hand(second) == (0, "")
    cached.chmod(0o644)
    cached.write_bytes(damaged(content))
    cached.chmod(0o444)  # DVC takes a read-only file of its cache for whole
    assert status(second, "finetune") == told
    code, said = check_by_hand(second)
    assert code == 1
    assert said == f"./{object_name(content).removeprefix('files/md5/')}: FAILED\n"


def check_by_hand(study: Study) -> tuple[int, str]:
    """What the shell block of docs/data.md that reads a whole cache ends with and prints."""
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (lines,) = (block for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "md5sum" in block)
    done = subprocess.run(["bash", "-c", lines], cwd=study.folder, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_damaged_object_of_the_remote_is_refused(shelved: Study, second: Study, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shutil.copytree(shelved.folder.parents[1] / "shelf", shelf)
    kept = shelf / object_name((shelved.folder / CHECKPOINT).read_bytes())
    kept.chmod(0o644)
    kept.write_bytes(damaged(kept.read_bytes()))
    kept.chmod(0o444)
    second.run("dvc", "remote", "modify", "--local", "shelf", "url", str(shelf))
    refused = second.run("dvc", "pull", check=False)
    assert (refused.returncode, CHECKPOINT in refused.stderr) == (1, True)
    expected = contents(shelved)
    del expected[CHECKPOINT]
    assert contents(second) == expected


@pytest.mark.parametrize("listing_deleted", [False, True])
def test_one_file_of_a_folder_is_pushed_again_once_its_listing_is_gone(
    shelved: Study, tmp_path: Path, listing_deleted: bool
) -> None:
    """Where False pushes too, docs/data.md need not speak of listings."""
    study, shelf = copy_of(shelved, tmp_path / "machine"), tmp_path / "shelf"
    shutil.copytree(shelved.folder.parents[1] / "shelf", shelf)
    study.run("dvc", "remote", "modify", "shelf", "url", str(shelf))
    study.run("dvc", "push")
    kept = shelf / object_name((study.folder / "data/raw/rings/photos/ring/0.png").read_bytes())
    kept.unlink()
    for listing in shelf.rglob("*.dir") if listing_deleted else ():
        if kept.parent.name + kept.name in listing.read_text():
            listing.unlink()
    study.run("dvc", "push")
    assert kept.exists() == listing_deleted
