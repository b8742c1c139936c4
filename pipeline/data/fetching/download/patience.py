"""How long to wait for a server: time limits, the pause before the next try, and when to give up."""

import random
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Patience:
    """Times in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0  # without a byte, after which a connection counts as dead
    first_wait_s: float = 1.0  # doubles with each try that brings nothing
    longest_wait_s: float = 60.0  # whatever the server asks for
    tries_to_begin: int = 4  # that bring nothing at all, as without a network
    tries: int = 8  # in a row that bring nothing new
    no_progress_s: float = 600.0  # in all, without a new byte
    log_every_s: float = 10.0  # where no terminal shows a bar


@dataclass
class Tries:
    """Those in a row that brought nothing new."""

    patience: Patience
    furthest: int  # bytes that ever were there: a server that always starts anew and is cut brings nothing new
    fruitless: int = 0
    began: bool = False
    since: float = field(default_factory=time.monotonic)

    def note(self, size: int) -> None:
        """Counts a try that ended with `size` bytes."""
        if size > self.furthest:
            self.furthest, self.fruitless, self.began, self.since = size, 0, True, time.monotonic()
        else:
            self.fruitless += 1

    @property
    def are_enough(self) -> bool:
        late = time.monotonic() - self.since > self.patience.no_progress_s
        return late or self.fruitless >= (self.patience.tries if self.began else self.patience.tries_to_begin)

    def wait_s(self, asked_s: float | None) -> float:
        """Seconds until the next try: as the server asks, else longer each time, and not in step with other users."""
        grown = self.patience.first_wait_s * 2 ** max(self.fruitless - 1, 0) * random.uniform(0.5, 1)
        return min(grown if asked_s is None else asked_s, self.patience.longest_wait_s)
