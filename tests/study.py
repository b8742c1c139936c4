"""A tiny study in a folder of its own: this checkout's code with small parameters, run the way a user runs it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.ports import free_port

ROOT = Path(__file__).parents[1]
GUARD = ROOT / "tests/guard"
DVC_SITE_CACHE = os.environ.get("DVC_SITE_CACHE_DIR", "/tmp/dvc-site")
CODE = ["flows", "pipeline", "dvc.yaml", "prefect.yaml", ".dvcignore", ".gitignore", "params.yaml"]

# Begins of variables by which tools take a machine for CI and keep silent: that would hide that they were not told to.
MUTING = (
    "CI", "PYTEST_", "GITHUB_", "GITLAB_", "JENKINS_", "TRAVIS", "BUILDKITE", "TF_BUILD", "CODEBUILD_", "BITBUCKET_",
    "TEAMCITY_", "DRONE", "SEMAPHORE", "APPVEYOR", "BUDDY", "RUNBOT_", "CLOUD_RUN_",
)  # fmt: skip

# Two transformers, one dataset, a few images: small enough for seconds, large enough for every stage to have work.
# One of the two is pre-trained within the study, the other starts from scratch.
TINY = {
    "study": {"datasets": ["busi"], "models": ["deit", "swin"], "threads": 1},
    "phantom": {"busi": {"images_per_class": 20, "width_px": 64}},
    "preprocess": {"image_size_px": 32},
    "models": {
        "deit": {"arch_options": {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}},
        "swin": {
            "weights": "none",
            "arch_options": {
                "patch_size": 4, "window_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [3, 6],
            },
        },
    },
    "pretraining": {
        "sources": {"busi": "phantom"},
        "images_per_class": {"busi": 20},
        "stages": ["deit"],
        "distilled": {"epochs": 2, "batch_size": 16, "teacher": {"epochs": 1}},
    },
    "finetune": {"epochs": 2, "warmup_epochs": 1, "batch_size": 8},
    "explain": {"max_images": 9, "overlays": 4},
    "score": {"steps": 4, "batch_size": 64, "bootstrap_resamples": 100},
    "report": {"gallery_images": 2},
}  # fmt: skip


@dataclass(frozen=True)
class Alone:
    """What a command printed, and what `guard/alone.py` says of it."""

    stdout: str
    packets: int | None = None  # that found no way out of the machine
    refused: str = ""  # why it was not alone


@dataclass(frozen=True)
class Study:
    folder: Path

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a Python module with arguments in the study's folder: run("dvc", "repro")."""
        result = self._finished([sys.executable, "-m", *command])
        if check and result.returncode:
            raise AssertionError(f"{command} ended with {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def run_alone(self, *command: str) -> "Alone":
        """Runs a Python module without any network but loopback, where the system allows that."""
        report = self.folder.with_name(f"{self.folder.name}.network.json")
        result = self._finished([sys.executable, str(GUARD / "alone.py"), str(report), sys.executable, "-m", *command])
        assert result.returncode == 0, f"{command} ended with {result.returncode}\n{result.stdout}\n{result.stderr}"
        return Alone(result.stdout, **json.loads(report.read_text(encoding="utf-8")))

    @property
    def attempts(self) -> list[str]:
        """What its commands were refused so far: to leave the machine, or to unpickle (`guard/sitecustomize.py`)."""
        return self._attempts.read_text(encoding="utf-8").splitlines() if self._attempts.exists() else []

    @property
    def _attempts(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.attempts")

    def _finished(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        watched = {"PYTHONPATH": str(GUARD), "GUARD_ATTEMPTS": str(self._attempts)}
        return subprocess.run(
            command, cwd=self.folder, env=study_environment() | watched, capture_output=True, text=True
        )

    def edit(self, change: Callable[[dict], None]) -> None:
        path = self.folder / "params.yaml"
        tree = yaml.safe_load(path.read_text())
        change(tree)
        path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def repro(self, *arguments: str) -> set[str]:
        """Runs `dvc repro` with these arguments; the names of the stages that it ran."""
        lines = self.run("dvc", "repro", *arguments).stdout.splitlines()
        return {line.split("'")[1] for line in lines if line.startswith("Running stage")}


def make_study(folder: Path, params: dict = TINY) -> Study:
    """A git and DVC project at `folder` with this checkout's code and `params` merged into params.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    study = Study(folder)
    study.edit(lambda tree: merge(tree, params))
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", *_AUTHOR, "commit", "-qm", "study"]):
        subprocess.run(command, cwd=folder, check=True)
    study.run("dvc", "init", "-q")
    return study


def merge(tree: dict, changes: dict) -> None:
    """Puts `changes` into a tree of parameters; options of an architecture and sources are replaced as a whole."""
    for key, value in changes.items():
        if isinstance(value, dict) and key not in ("arch_options", "sources"):
            merge(tree[key], value)
        else:
            tree[key] = value


_AUTHOR = ["-c", "user.name=tests", "-c", "user.email=tests@localhost"]


def study_environment() -> dict[str, str]:
    """The tests' environment without addresses of servers that are not the study's own, and without marks of CI."""
    others = ("PREFECT_", "MLFLOW_", *MUTING)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # as an activated .venv does
    return kept | {
        "PATH": path,
        "OMP_NUM_THREADS": "1",
        "PREFECT_PORT": str(free_port()),
        "DVC_SITE_CACHE_DIR": DVC_SITE_CACHE,
    }
