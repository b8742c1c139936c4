"""Spread a loop over processes."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread

from pipeline.errors import StudyError

CHUNK = 8  # items that a process takes at a time


@contextmanager
def mapper(processes: int) -> Iterator[Callable]:
    """`map`, over fresh processes if there is more than one; results keep their order.

    Work not begun when the block ends is given up.

    Raises:
        StudyError: the system ended one of the processes.
    """
    if processes == 1:
        yield map
        return
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_be_a_worker)
    try:
        yield partial(pool.map, chunksize=CHUNK)
    except BrokenProcessPool:
        raise StudyError(
            f"one of {processes} processes was ended from outside, most likely for want of memory; "
            "lower study.threads in params.yaml"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _be_a_worker() -> None:
    """Ctrl-C reaches the parent too, which ends its workers; one whose parent was killed would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_exit_after_parent, daemon=True).start()


def _exit_after_parent() -> None:
    if parent := parent_process():
        parent.join()
    os._exit(1)
