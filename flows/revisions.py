"""What git knows of the study: the commit, whether files differ from it, and which commit holds some data."""

import subprocess


def commit() -> str | None:
    """The one that is checked out; None outside git."""
    return git("rev-parse", "HEAD").strip() or None


def has_changes() -> bool:
    """Whether files differ from it; dvc.lock does after every run that made something."""
    return bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock").strip())


def revision_holding(md5: str) -> str | None:
    """The newest commit whose dvc.lock holds that hash; None outside git, or where it was never committed."""
    changed = git("log", "--format=%H", f"-S{md5}", "--", "dvc.lock").split()
    return next((each for each in changed if md5 in git("show", f"{each}:dvc.lock")), None)


def git(*arguments: str) -> str:
    """What the command prints; nothing where it fails."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False).stdout
