"""A cell that is ready to be explained in a project's folder, and a Dask cluster of separate processes for it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from pipeline.files import sha256_of
from tests.metrics.test_scoring import give_masks, give_model
from tests.ports import free_port
from tests.prepared import write_prepared
from tests.study import ROOT, TINY, merge, study_environment

DATASET, MODEL = "busi", "swin"
WAIT_S = 300
# One process for both stages: importing torch and Prefect takes longer than either.
STAGES = """
from flows.command import run_main
from flows.explain import explain
from flows.score import score

run_main(lambda: [stage("busi", "swin") for stage in (explain, score)])
"""


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml, a prepared set and a model; the code is this checkout's."""

    folder: Path

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs Python with these arguments in the folder."""
        return subprocess.run(
            [sys.executable, *command], cwd=self.folder, env=in_checkout(**environment), capture_output=True, text=True
        )

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *command], cwd=self.folder, env=in_checkout(**environment),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def hashes(self) -> dict[str, str]:
        """Of the model and of all that explaining and scoring wrote."""
        folders = [self.folder / "data" / stage for stage in ("models", "heatmaps", "scores")]
        paths = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in paths}

    def shard_files(self, stage: str) -> dict[str, tuple[int, int]]:
        """Name of each finished shard -> inode and time of its file."""
        found = {}
        with suppress(FileNotFoundError):  # all go when the stage has written its files
            for path in (self.folder / ".resume" / stage).rglob("*-?*.npz"):
                found[path.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
        return found


def make_project(folder: Path, runner: dict[str, str], test_images: int = 14) -> Project:
    """
    Args:
        test_images: of each of three classes; 14 give three shards of explaining and six of scoring.
    """
    give_masks(write_prepared(folder / "data/prepared" / DATASET, test=test_images))
    give_model(folder / "data/models" / DATASET / MODEL)
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    merge(tree, TINY | {"explain": {"max_images": None, "overlays": 4}, "runner": runner})
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    return Project(folder)


def in_checkout(**environment: str) -> dict[str, str]:
    return study_environment() | {"PYTHONPATH": str(ROOT)} | environment


@dataclass(frozen=True)
class DaskCluster:
    address: str
    scheduler: subprocess.Popen
    workers: list[subprocess.Popen]
    folder: Path

    @property
    def log(self) -> str:
        """What scheduler and workers said so far."""
        return (self.folder / "log").read_text(encoding="utf-8")


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[DaskCluster]:
    """A scheduler and workers, each a process of its own, as docs/machines.md starts them."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        run = lambda *command: stack.enter_context(process_of(folder, *command))  # noqa: E731
        scheduler = run("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        options = "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"
        processes = [run("distributed.cli.dask_worker", address, *options) for _ in range(workers)]
        yield DaskCluster(address, scheduler, processes, folder)


@contextmanager
def process_of(folder: Path, *command: str) -> Iterator[subprocess.Popen]:
    """A Python module that runs in the folder while the block lasts; what it says goes to `log` there."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=folder, env=in_checkout(), stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until(happened: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not happened():
        assert running.poll() is None, running.stdout and running.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def busiest(processes: list[subprocess.Popen]) -> subprocess.Popen:
    """The one that has used its processor most."""
    return max(processes, key=lambda each: sum(psutil.Process(each.pid).cpu_times()[:2]))
