"""Spread a loop over processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

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
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield partial(pool.map, chunksize=CHUNK)
    except BrokenProcessPool:
        raise StudyError(
            f"one of {processes} processes was ended from outside, most likely for want of memory; "
            "lower study.threads in params.yaml"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
