"""Shows how far a download is: a bar on a terminal, else a line in the log every few seconds."""

import logging
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)


class Meter:
    """Called with the bytes that are there and the bytes in all (0: unknown)."""

    def __init__(self, label: str, log_every_s: float, progress: Callable[[int, int], None]) -> None:
        self.label, self.log_every_s, self.progress = label, log_every_s, progress
        self.bar = tqdm(desc=label, unit="B", unit_scale=True, disable=None)
        self.logged_at, self.logged_bytes = time.monotonic(), 0

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def start(self, done: int, total: int) -> None:
        """Begins to measure the rate, from what is there already."""
        self.logged_at, self.logged_bytes = time.monotonic(), done
        if not self.bar.disable:
            self.bar.reset(total or None)
            self.bar.n = self.bar.initial = done
        self.progress(done, total)

    def __call__(self, done: int, total: int) -> None:
        self.bar.update(done - self.bar.n)
        self.progress(done, total)
        now = time.monotonic()
        if self.bar.disable and now - self.logged_at >= self.log_every_s:
            rate = (done - self.logged_bytes) / max(now - self.logged_at, 1e-9)
            log.info("%s: %s", self.label, state_line(done, total, rate))
            self.logged_at, self.logged_bytes = now, done


def state_line(done: int, total: int, rate: float) -> str:
    """Such as `34 % of 206MB, 5.10MB/s, 00:27 left`; the rate is in bytes per second."""
    speed = f"{tqdm.format_sizeof(rate, 'B')}/s"
    if not total:
        return f"{tqdm.format_sizeof(done, 'B')}, {speed}"
    left = f"{tqdm.format_interval((total - done) / rate)} left" if rate else "stalled"
    return f"{100 * done // total} % of {tqdm.format_sizeof(total, 'B')}, {speed}, {left}"
