"""What git knows of the study, asked in a repository made for it."""

import subprocess

import pytest

from flows import revisions


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Three commits of dvc.lock: it holds `one`, then `two`, then `one` again beside another hash."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    found = []
    for text in ("md5: one", "md5: two", "md5: one, md5: three"):
        (tmp_path / "dvc.lock").write_text(text)
        git("add", "-A")
        git("-c", "user.name=tests", "-c", "user.email=tests@localhost", "commit", "-qm", "data")
        found.append(revisions.commit())
    return found


def git(*arguments):
    subprocess.run(["git", *arguments], check=True)


def test_data_is_found_in_the_newest_commit_that_holds_it(repository):
    assert revisions.revision_holding("two") == repository[1]
    assert revisions.revision_holding("one") == repository[2]
    assert revisions.revision_holding("never") is None


def test_changes_are_noticed_but_for_those_of_the_lock_file(repository, tmp_path):
    (tmp_path / "dvc.lock").write_text("md5: four")
    assert not revisions.has_changes()
    (tmp_path / "params.yaml").write_text("study:")
    git("add", "-A")
    assert revisions.has_changes()


def test_outside_git_nothing_is_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revisions.commit() is None
    assert revisions.revision_holding("one") is None
