"""A finished tiny study on one machine, under git and DVC, and its commit on another."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import chdir
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from pipeline.files import sha256_of
from tests.once import made_once
from tests.rings import ENTRY, make_scans
from tests.study import DVC_SITE_CACHE, ROOT, TINY, Study, make_study

CHECKPOINT = "data/models/rings/swin/model.safetensors"
STATUS_WHEN_DONE = {"publish": ["always changed"]}
OF_ONE_MACHINE = {"data/report/index.html"}  # written by publish: links into the machine's own MLflow store


def shared_machine(factory: pytest.TempPathFactory) -> Study:
    """`first_machine`, made once for all processes of a test run and only read: change a `copy_of` it."""
    return Study(made_once(factory, "first_machine", first_machine) / "checkout")


def first_machine(folder: Path) -> Study:
    """One set of the user's own, read from a folder beside the checkout, and one model: run and committed."""
    params = TINY | {
        "study": {"datasets": ["rings"], "models": ["swin"], "threads": 1},
        "pretraining": {"stages": []},
    }
    study = make_study(folder / "checkout", params)
    make_scans(folder / "scans")
    study.edit(lambda tree: tree["datasets"].update(rings=ENTRY))
    shutil.copytree(ROOT / "data/pretrained", study.folder / "data/pretrained")
    study.run("dvc", "repro")
    commit(study)
    return study


def copy_of(study: Study, folder: Path) -> Study:
    """The whole machine once more, cache and source included."""
    return Study(Path(shutil.copytree(study.folder.parent, folder, symlinks=True)) / "checkout")


def clone_of(study: Study, folder: Path) -> Study:
    """Another machine: what is in git, and nothing beside it."""
    folder.mkdir(exist_ok=True)
    git(study, "clone", "--quiet", ".", str(folder / "checkout"))
    return Study(folder / "checkout")


def shelved_machine(factory: pytest.TempPathFactory) -> Study:
    """The first machine after `dvc push` to the folder `shelf` beside it, which its commit names."""
    folder = factory.mktemp("shelved")
    study = copy_of(shared_machine(factory), folder / "machine")
    add_remote(study, str(folder / "shelf"))
    study.run("dvc", "push")
    commit(study)
    return study


def commit(study: Study) -> None:
    git(study, "add", "--all")
    git(study, "-c", "user.name=tests", "-c", "user.email=tests@localhost", "commit", "--quiet", "--message", "state")


def git(study: Study, *arguments: str, ends_with: Iterable[int] = (0,)) -> str:
    done = subprocess.run(["git", *arguments], cwd=study.folder, capture_output=True, text=True)
    assert done.returncode in ends_with, done.stderr
    return done.stdout


def add_remote(study: Study, url: str) -> None:
    """As docs/data.md sets one up."""
    study.run("dvc", "remote", "add", "--default", "shelf", url)
    study.run("dvc", "remote", "modify", "shelf", "verify", "true")


def status(study: Study, *targets: str) -> dict[str, Any]:
    """What `dvc status --json` prints, without a new process."""
    from dvc.repo import Repo  # half a second

    with chdir(study.folder), mock.patch.dict(os.environ, DVC_SITE_CACHE_DIR=DVC_SITE_CACHE), Repo() as repo:
        return repo.status(targets=list(targets) or None)


def contents(study: Study, *folders: str) -> dict[str, str]:
    """Path -> SHA-256 of every file that belongs to the commit, in git or under DVC."""
    paths = [path for folder in folders or ["data"] for path in (study.folder / folder).rglob("*") if path.is_file()]
    hashes = {path.relative_to(study.folder).as_posix(): sha256_of(path) for path in paths}
    return {name: value for name, value in hashes.items() if name not in OF_ONE_MACHINE}


def object_name(content: bytes) -> str:
    """Where a cache or a remote keeps a file, below its own top."""
    md5 = hashlib.md5(content).hexdigest()
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def damaged(content: bytes) -> bytes:
    """One bit is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
