"""How a command begins and ends in the shell: its log lines, its errors and its exit code."""

import errno
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from pipeline.errors import StudyError


def run_main(command: Callable[[], Any]) -> None:
    """Runs a command for the shell: log lines to stderr, a user's problem as one line instead of a traceback.

    Exit codes: 0 done, 2 the user has to mend something, 1 and 3 as `pipeline.errors` says.
    """
    console = logging.StreamHandler(sys.stderr)
    console.addFilter(_worth_a_line)
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[console])
    for noisy in ("alembic", "httpx", "httpcore", "mlflow", "matplotlib", "timm"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        command()
    except StudyError as error:
        _stop(str(error), error.exit_code)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _stop(
            f"{error.filename or 'disk'}: no space left; free some and run again, nothing half-written stays",
            StudyError.exit_code,
        )


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Prefect's own lines stay in its UI, but for the address of the run; errors are reported once, by this module."""
    return not record.name.startswith("prefect") or record.getMessage().startswith("View at")


def _stop(message: str, exit_code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(exit_code)
