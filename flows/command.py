"""How a command begins and ends in the shell: its log lines, its errors, the signals that stop it, its exit code."""

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Self

from pipeline.errors import StudyError
from pipeline.files import is_full_disk, no_room_for

STOPPED = "stopped; run again to go on"
STOPPING = [signal.SIGINT, signal.SIGTERM]


def run_main(command: Callable[[], Any]) -> None:
    """Runs a command for the shell: log lines to stderr, a user's problem as one line instead of a traceback.

    Exit codes: 0 done, 2 the user has to mend something, 1 and 3 as `pipeline.errors` says; 130 after Ctrl-C and 143
    after SIGTERM, which end it in order: half-written files vanish. A second one ends it at once.
    """
    console = logging.StreamHandler(sys.stderr)
    console.addFilter(_worth_a_line)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[console])
    for noisy in ("alembic", "httpx", "httpcore", "mlflow", "matplotlib", "timm"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with _Stop() as stop:
        try:
            command()
        except BaseException as error:  # in Prefect's hands a signal becomes an exception of Prefect's own
            if stop.received:
                _end(STOPPED, stop.exit_code)
            if isinstance(error, StudyError):
                _end(f"error: {error}", error.exit_code)
            if is_full_disk(error):
                where = getattr(error, "filename", None) or "the disk"
                _end(f"error: {no_room_for(where)}", StudyError.exit_code)
            raise


class _Stop:
    """Takes the signals that stop a command; the first raises KeyboardInterrupt, which every block cleans up after."""

    def __init__(self) -> None:
        self.received, self._process = 0, os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for what runs in the background
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """As a shell has it for a program that ended by the signal."""
        return 128 + self.received

    def _take(self, number: int, frame: FrameType | None) -> None:
        is_second, self.received = bool(self.received), number
        if is_second or os.getpid() != self._process:  # a fork has none of our files to clean up
            os._exit(self.exit_code)
        raise KeyboardInterrupt


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Prefect's own lines stay in its UI, but for the address of the run; errors are reported once, by this module."""
    return not record.name.startswith("prefect") or record.getMessage().startswith("View at")


def _end(message: str, exit_code: int) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(exit_code)
