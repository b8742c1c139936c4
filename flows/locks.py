"""One process at a time does a stage, and it ends with the DVC that started it, so that no two write the same files."""

import logging
import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import psutil
from filelock import FileLock, Timeout

from flows.layout import RUNS
from flows.processes import STAGE_STOP_S, Process, lives, process_of
from pipeline.files import write_text

log = logging.getLogger("flows")

LOOK_INTERVAL_S = 1
STARTERS = ("dvc", "flows.study", "flows.finetune")  # what runs stages, as its command line says
STUDY_PROCESS = "STUDY_PROCESS"  # environment variable: the study that a stage is of, whatever its command line


@contextmanager
def alone(stage: str) -> Iterator[None]:
    """Waits until no other process does this stage, and says which one it waits for.

    The lock goes with its process, however that ends. The other processes of one fine-tuning need none.
    """
    if not is_first():
        yield
        return
    holder = RUNS / f"{stage}.holder"
    RUNS.mkdir(exist_ok=True)
    lock = FileLock(RUNS / f"{stage}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        log.warning("%s: process %s is at it; waiting for its end", stage, _read(holder))
        lock.acquire(poll_interval=0.1)
    try:
        write_text(holder, f"{os.getpid()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_first() -> bool:
    """Whether this is the one process of a stage that speaks and keeps its files; `accelerate` counts them."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def ended_with_starter() -> Iterator[None]:
    """Ends this process in order when the DVC that started it, or the study that started that, is gone."""
    starters: list[psutil.Process | None] = [each for each in psutil.Process().parents() if is_starter(each)]
    if told := os.environ.get(STUDY_PROCESS):
        starters.append(Process.model_validate_json(told).found())
    if starters:
        Thread(target=_end_after, args=(starters,), daemon=True).start()
    yield


def named_as_starter() -> dict[str, str]:
    """What the environment of a stage has to say of this process, so that it ends with it."""
    return {STUDY_PROCESS: process_of(os.getpid()).model_dump_json()}


def _end_after(starters: list[psutil.Process | None]) -> None:
    """
    Args:
        starters: None stands for one that is gone already.
    """
    while all(each and lives(each) for each in starters):
        time.sleep(LOOK_INTERVAL_S)
    log.warning("what started this stage is gone; ending too")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STAGE_STOP_S)
    os._exit(128 + signal.SIGTERM)


def is_starter(process: psutil.Process, names: Collection[str] = STARTERS) -> bool:
    """Whether it runs stages: DVC, or the study."""
    try:
        return any(Path(argument).name in names for argument in process.cmdline())
    except psutil.Error:
        return False


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "?"
