"""Processes that are left running in the background: each is noted in .servers/ until it is stopped, its log beside.

They write to a file, never to a pipe: Prefect's own `--background` dies with its pipe under load.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ValidationError

from pipeline.files import write_text

STATE = Path(".servers")
CLOCK_S = 10  # that the machine's clock may be set by meanwhile; start times are told by it
STAGE_STOP_S = 20  # that a stage has to end in order; Prefect kills a run that was cancelled after 30
STOP_TIMEOUT_S = 40


class Process(BaseModel):
    """One of this machine. The start time tells it from a later one that was given its number."""

    pid: int
    started: float

    def found(self) -> psutil.Process | None:
        """It, while it runs."""
        try:
            process = psutil.Process(self.pid)
            is_it = abs(process.create_time() - self.started) < CLOCK_S
            return process if is_it and lives(process) else None
        except psutil.NoSuchProcess:
            return None


class Note(Process):
    url: str = ""  # of its pages
    api: str = ""  # what clients use
    owner: Process | None = None  # what it is up for; None: until somebody stops it


def process_of(pid: int) -> Process:
    return Process(pid=pid, started=psutil.Process(pid).create_time())


def lives(process: psutil.Process) -> bool:
    """Whether it is still that process; one that ended and was not waited for does not live."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def noted(name: str) -> Note | None:
    """The note of a process that runs."""
    try:
        note = Note.model_validate_json(_path(name).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError):
        return None
    return note if note.found() else None


def keep(name: str, note: Note) -> None:
    write_text(_path(name), note.model_dump_json())


def spawn(name: str, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
    """Starts it in a session of its own, so that it outlives this one."""
    STATE.mkdir(exist_ok=True)
    with log_of(name).open("ab") as log_file:
        return subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            start_new_session=True,
        )


def end(name: str) -> bool:
    """Ends it with all that it started; says whether there was one."""
    note = noted(name)
    _path(name).unlink(missing_ok=True)
    process = note and note.found()
    if not process:
        return False
    family = [process, *process.children(recursive=True)]
    process.terminate()
    _, left = psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
    for survivor in left:
        survivor.kill()
    return True


def log_of(name: str) -> Path:
    return STATE / f"{name}.log"


def _path(name: str) -> Path:
    return STATE / f"{name}.json"
