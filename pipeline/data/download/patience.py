"""How long to wait for a server: time limits, the pause before the next try, and when to give up."""

import random
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Patience:
    """Times in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0  # without a byte, after which a connection counts as dead
    first_wait_s: float = 1.0  # before the second try; doubles with each one that brings nothing
    longest_wait_s: float = 60.0  # whatever the server asks for
    tries: int = 6  # in a row that bring nothing new
    no_progress_s: float = 600.0  # in all, without a new byte
    log_every_s: float = 10.0  # where no terminal shows a bar


@dataclass
class Tries:
    """Those in a row that brought nothing new."""

    patience: Patience
    furthest: int  # bytes that ever were there: a server that always starts anew and is cut brings nothing new
    fruitless: int = 0
    since: float = field(default_factory=time.monotonic)

    def note(self, size: int) -> None:
        """Counts a try that ended with `size` bytes."""
        if size > self.furthest:
            self.furthest, self.fruitless, self.since = size, 0, time.monotonic()
        else:
            self.fruitless += 1

    @property
    def are_enough(self) -> bool:
        late = time.monotonic() - self.since > self.patience.no_progress_s
        return self.fruitless >= self.patience.tries or late

    def wait_s(self, asked_s: float | None) -> float:
        """Seconds until the next try: as the server asks, else longer each time, and not in step with other users."""
        grown = self.patience.first_wait_s * 2**self.fruitless * random.uniform(0.5, 1)
        return min(grown if asked_s is None else asked_s, self.patience.longest_wait_s)
