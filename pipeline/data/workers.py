"""Spread a loop over processes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context

CHUNK = 8  # items that a process takes at a time


@contextmanager
def mapper(processes: int) -> Iterator[Callable]:
    """`map`, over fresh processes if there is more than one; results keep their order.

    Work not begun when the block ends is given up.
    """
    if processes == 1:
        yield map
        return
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    try:
        yield partial(pool.map, chunksize=CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)
