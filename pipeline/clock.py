"""Times as people read them, and how much of it work in progress will still take."""

import time
from collections.abc import Callable
from dataclasses import dataclass


def duration(seconds: float, digits: int = 0) -> str:
    """`2 h 5 min`, `3 min 20 s`, and below a minute `12 s` with so many digits."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.{digits}f} s"


@dataclass
class Pace:
    """How fast work goes since the first time it was asked for; what an earlier run had done by then took no time."""

    clock: Callable[[], float] = time.monotonic  # seconds
    began_s: float = 0.0
    began_at: int = 0
    total: int | None = None  # another total is other work: unpacking after a download

    def seconds_left(self, done: int, total: int) -> float | None:
        """None while nothing was done since the first call."""
        now = self.clock()
        if total != self.total:
            self.began_s, self.began_at, self.total = now, done, total
        fresh = done - self.began_at
        return (total - done) * (now - self.began_s) / fresh if fresh > 0 else None


@dataclass(frozen=True)
class Account:
    """How work is counted: in units, in batches of so many epochs, or in percent where it has no one unit."""

    unit: str | None = None
    epochs: int | None = None

    def told(self, done: int, total: int, seconds_left: float | None) -> str:
        """`120 of 640 images, 40 s left`, or `epoch 3 of 9, batch 12 of 50, 1 min 20 s left`."""
        left = "" if seconds_left is None or done >= total else f", {duration(seconds_left)} left"
        return f"{self._counted(done, total)}{left}"

    def _counted(self, done: int, total: int) -> str:
        if self.epochs:
            return _in_epochs(done, total // self.epochs, self.epochs)
        if self.unit is None:
            return f"{percent(done, total):.0f} %"
        return f"{done:,} of {total:,} {self.unit}{'' if total == 1 else 's'}"


def percent(done: int, total: int) -> float:
    """Work whose extent is unknown, a total of 0, counts as not begun."""
    return 100 * min(done / total, 1.0) if total else 0.0


def _in_epochs(done: int, batches: int, epochs: int) -> str:
    """
    Args:
        done: batches of all epochs.
        batches: of one epoch; where it is 1, epochs are all that is counted.
    """
    epoch, batch = divmod(max(done - 1, 0), batches)
    within = f", batch {min(batch + 1, done)} of {batches}" if batches > 1 else ""
    return f"epoch {epoch + 1} of {epochs}{within}"
