"""What a kill leaves of DVC's own files, and what stops DVC ever after.

DVC writes dvc.lock and .dvc/tmp/rwlock in place, so that both may be cut off in the middle; and the second goes on
naming processes that are gone, whose numbers others may have by now.
"""

import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import yaml

from flows.locks import LOOK_INTERVAL_S, is_starter
from pipeline.files import write_text

log = logging.getLogger("flows")

LOCK_FILE = Path("dvc.lock")
OWN = Path(".dvc/tmp")
RWLOCK = OWN / "rwlock"  # which process of DVC reads and writes what
STAGE_BEGINS = re.compile(r"^  \S+:$", re.MULTILINE)


def mend_dvc() -> None:
    """Takes away what is cut off and who is gone; DVC looks up in its cache what dvc.lock does not tell any more.

    Waits for another DVC that is at work here, as that of a study which was killed may be for a while.
    """
    told = set[int]()
    while at_work := _others_at_work():
        if at_work - told:
            pids = ", ".join(map(str, sorted(at_work)))
            log.warning("DVC is at a stage here (process %s); waiting until that is done", pids)
        told |= at_work
        time.sleep(LOOK_INTERVAL_S)
    with _held("lock"):
        if LOCK_FILE.exists() and not _is_lock_file(LOCK_FILE.read_text(encoding="utf-8")):
            log.warning("%s: cut off in the middle; the stages that it lacks are looked up in DVC's cache", LOCK_FILE)
            _shorten(LOCK_FILE)


def _others_at_work() -> set[int]:
    """Process numbers of the DVCs that read or write what a stage does; those that are gone are struck off."""
    with _held("rwlock.lock"):
        return _keep_the_living(RWLOCK) if RWLOCK.exists() else set()


def _keep_the_living(path: Path) -> set[int]:
    told = _processes(path.read_text(encoding="utf-8"))
    writers = {file: info for file, info in told.get("write", {}).items() if _is_dvc(info["pid"])}
    readers = {file: [each for each in infos if _is_dvc(each["pid"])] for file, infos in told.get("read", {}).items()}
    kept = {"write": writers, "read": {file: infos for file, infos in readers.items() if infos}}
    if kept != told:
        write_text(path, json.dumps(kept))
    return {info["pid"] for info in chain(writers.values(), *readers.values())}


def _is_dvc(pid: int) -> bool:
    """Whether it is one, and not this process or one above it, which may have been given the number of one."""
    above = {os.getpid(), *(each.pid for each in psutil.Process().parents())}
    try:
        return pid not in above and is_starter(psutil.Process(pid), ("dvc",))
    except psutil.NoSuchProcess:
        return False


def _is_lock_file(text: str) -> bool:
    """Whether DVC would take it."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(text))
    except (yaml.YAMLError, Invalid):
        return False
    return True


def _processes(text: str) -> dict[str, Any]:
    """What rwlock tells; nothing where it is cut off."""
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


def _shorten(path: Path) -> None:
    """To the stages that are whole; gone where there is none."""
    text = path.read_text(encoding="utf-8")
    begins = [match.start() for match in STAGE_BEGINS.finditer(text)]
    if len(begins) > 1:
        write_text(path, text[: begins[-1]])
    else:
        path.unlink()


@contextmanager
def _held(name: str) -> Iterator[None]:
    """A lock of DVC's own."""
    from dvc.lock import make_lock  # half a second

    if not OWN.is_dir():
        yield  # DVC has not run here
        return
    with make_lock(str(OWN / name), wait=True):
        yield
