"""The stages of dvc.yaml: which are stale, and how they run side by side.

DVC stays the judge of what is stale and the keeper of dvc.lock: each stage is `dvc --wait-for-lock repro -s <stage>`,
started as soon as the stages it waits for are done and this machine has room for it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Lock

from flows.locks import named_as_starter
from flows.processes import STAGE_STOP_S
from flows.room import Room

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
NOT_BEGUN = 130  # exit code of a stage that came too late, as of one that Ctrl-C ended

Reproduce = Callable[[str, Mapping[str, str]], int]  # of a stage and what its environment says beside; the exit code


class Running:
    """The processes of stages. Once they are told to end, none is started any more."""

    def __init__(self) -> None:
        self._processes, self._lock, self._is_open = set[subprocess.Popen](), Lock(), True

    def open(self) -> None:
        self._is_open = True

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen | None:
        with self._lock:
            if not self._is_open:
                return None
            # A session of its own: what is sent to its group reaches DVC and the stage, and Ctrl-C reaches us alone.
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self._processes.add(process)
            return process

    def left(self, process: subprocess.Popen) -> None:
        with self._lock:
            self._processes.remove(process)

    def stop(self) -> None:
        """Ends each stage as Ctrl-C in its own terminal would; what has not ended after a while is killed."""
        with self._lock:
            self._is_open, processes = False, list(self._processes)
        until = time.monotonic() + STAGE_STOP_S
        for process in processes:
            _signal_group(process, signal.SIGINT)
        for process in processes:
            try:
                process.wait(max(0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)


_running = Running()


def stale_stages() -> dict[str, set[str]]:
    """Names of the stages that `dvc repro` would look at again, each with those among them that it waits for."""
    from dvc.repo import Repo  # half a second

    with Repo(_wait_for_lock=True) as repo:
        changed = repo.status()
        graph = repo.index.graph  # an edge leads from a stage to one that it waits for
        waits = {stage.addressing: {needed.addressing for needed in graph.successors(stage)} for stage in graph}
    stale: set[str] = set()
    for name in TopologicalSorter(waits).static_order():
        if name in changed or waits[name] & stale:
            stale.add(name)
    return {name: needed & stale for name, needed in waits.items() if name in stale}


def reproduce(name: str, environment: Mapping[str, str]) -> int:
    """Runs one stage, its lines shown after its name; the exit code comes back."""
    command = [sys.executable, "-u", "-m", "dvc", "--wait-for-lock", "repro", "--single-item", name]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # dvc.yaml says `python`
    process = _running.start(command, {**os.environ, "PATH": path, **named_as_starter(), **environment})
    if process is None:
        return NOT_BEGUN
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() and not line.strip().startswith(HINTS):
                print(f"{name:18} {line.rstrip()}", flush=True)
    _running.left(process)
    return process.returncode


def run_stages(waits: dict[str, set[str]], room: Room, reproduce: Reproduce = reproduce) -> list[str]:
    """Runs the stages, as many at a time as there is room for; the names of those that failed come back.

    Where this process is told to end, so are they.

    Args:
        waits: stage -> stages that must be done before it. What waits for a failed stage is not run.
    """
    order = TopologicalSorter(waits)
    order.prepare()
    failed, ready, running = [], list[str](), dict[Future[int], str]()
    with ThreadPoolExecutor(room.workers) as pool, _ended_with_us():
        while order.is_active():
            ready += order.get_ready()
            for name, environment in _let_in(ready, room):
                running[pool.submit(reproduce, name, environment)] = name
            if not running:
                break  # all that is left waits for a stage that failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                room.leave(name)
                if future.result() == 0:
                    order.done(name)
                else:
                    failed.append(name)
    return failed


def _let_in(ready: list[str], room: Room) -> Iterator[tuple[str, dict[str, str]]]:
    """Those that have room now; they leave the list."""
    for name in list(ready):
        if (environment := room.enter(name)) is not None:
            ready.remove(name)
            yield name, environment


@contextmanager
def _ended_with_us() -> Iterator[None]:
    """Where the block ends by Ctrl-C, a signal or an error, the stages that still run are ended first."""
    _running.open()
    try:
        yield
    except BaseException:
        _running.stop()
        raise


def _signal_group(process: subprocess.Popen, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
