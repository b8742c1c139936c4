"""The stages of dvc.yaml: which are stale, and how they run side by side.

DVC stays the judge of what is stale and the keeper of dvc.lock: each stage is `dvc --wait-for-lock repro -s <stage>`,
started as soon as the stages it waits for are done.
"""

import os
import subprocess
import sys
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path

from pipeline.params import StudyParams

# Lines of DVC that say nothing about the stage.
HINTS = (
    "Updating lock file",
    "Generating lock file",
    "To track the changes",
    "git add",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push`",
)


def default_workers(study: StudyParams) -> int:
    """As many stages at a time as the cores can feed; one at a time where they would share a GPU."""
    shares_gpu = study.device != "cpu" and Path("/dev/nvidia0").exists()
    return 1 if shares_gpu else max(1, (os.cpu_count() or 1) // study.threads)


def stale_stages() -> dict[str, set[str]]:
    """Names of the stages that `dvc repro` would look at again, each with those among them that it waits for."""
    from dvc.repo import Repo  # half a second

    with Repo() as repo:
        changed = repo.status()
        graph = repo.index.graph  # an edge leads from a stage to one that it waits for
        waits = {stage.addressing: {needed.addressing for needed in graph.successors(stage)} for stage in graph}
    stale: set[str] = set()
    for name in TopologicalSorter(waits).static_order():
        if name in changed or waits[name] & stale:
            stale.add(name)
    return {name: needed & stale for name, needed in waits.items() if name in stale}


def run_stages(waits: dict[str, set[str]], workers: int) -> list[str]:
    """Runs the stages, at most `workers` at a time; the names of those that failed come back.

    Args:
        waits: stage -> stages that must be done before it. What waits for a failed stage is not run.
    """
    order = TopologicalSorter(waits)
    order.prepare()
    failed, running = [], dict[Future[int], str]()
    with ThreadPoolExecutor(workers) as pool:
        while order.is_active():
            running |= {pool.submit(reproduce, name): name for name in order.get_ready()}
            if not running:
                break  # all that is left waits for a stage that failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                if future.result() == 0:
                    order.done(name)
                else:
                    failed.append(name)
    return failed


def reproduce(name: str) -> int:
    """Runs one stage, its lines shown after its name; the exit code comes back."""
    command = [sys.executable, "-u", "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # dvc.yaml says `python`
    environment = {**os.environ, "PATH": path}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not line.strip().startswith(HINTS):
                print(f"{name:18} {line.rstrip()}", flush=True)
    return process.returncode
