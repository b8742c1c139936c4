"""Whether this process reports to a Prefect server, and what is to be done when that server is lost."""

import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pipeline  # noqa: F401  (its import switches telemetry off, before Prefect is imported)
from flows.left_behind import Note, own_note, process_tag, settle, settle_left, tag_running
from flows.locks import is_first
from flows.servers import address_of
from pipeline.errors import StudyError

log = logging.getLogger("flows")

HEALTH_TIMEOUT_S = 2

# Set before Prefect is imported; a user's own setting wins.
PREFECT_SETTINGS = {
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,pipeline",
    "PREFECT_TASKS_DEFAULT_NO_CACHE": "true",  # DVC is the only cache
    "PREFECT_CLIENT_MAX_RETRIES": "2",  # a lost server is noticed in seconds, not in minutes
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}


class Monitor:
    """Whether this process reports to a Prefect server: found out at the first step, given up at the first loss."""

    def __init__(self) -> None:
        self._on: bool | None = None
        self._notes = False  # whether what runs now is noted

    def on(self) -> bool:
        if self._on is None:
            self._on = is_first() and self._connect()
        return self._on

    @contextmanager
    def noted(self) -> Iterator[None]:
        """A block whose flow runs are ended in Prefect whatever becomes of this process and of the server."""
        if self._notes or not self.on():
            yield
            return
        from prefect import tags

        note, ended = own_note(_server()), "Completed"
        self._notes = True
        _keep(note)
        try:
            with tags(process_tag()):
                yield
        except Exception:
            ended = "Failed"
            raise
        except BaseException:
            ended = "Crashed"
            raise
        finally:
            self._notes = False
            self._settle(note.model_copy(update={"ended": ended}))

    @contextmanager
    def noted_from_outside(self) -> Iterator[None]:
        """A block of a flow run that Prefect began and ends itself: should this process be killed, the next ends it.

        The note stays until then: the run has its end from Prefect only after the block.
        """
        if self._notes or not self.on():
            yield
            return
        try:
            tag_running(process_tag())
        except Exception as error:
            self.give_up(error)
        self._notes = True
        _keep(own_note(_server()))
        try:
            yield
        finally:
            self._notes = False

    def _settle(self, note: Note) -> None:
        _keep(note)
        try:
            if self._on:
                settle(note)
        except Exception as error:
            self.give_up(error)

    def give_up(self, error: BaseException) -> None:
        if not self._on:
            return
        self._on = False
        _stop_sending_logs()
        log.warning("Prefect server lost (%s: %s); going on without it", type(error).__name__, first_line(error))

    def _connect(self) -> bool:
        url = os.environ.get("PREFECT_API_URL") or address_of("prefect")
        if url is None:
            log.info("no Prefect server is up (`make ui` starts one); running plainly")
            return False
        if not _answers(url):
            log.warning("the Prefect server at %s does not answer; running plainly", url)
            return False
        os.environ["PREFECT_API_URL"] = url
        for name, value in PREFECT_SETTINGS.items():
            os.environ.setdefault(name, value)
        for noisy in ("prefect._internal.concurrency", "prefect.events.clients"):
            logging.getLogger(noisy).addFilter(lambda record: False)  # they print each event a lost server missed
        return self._settle_left()

    def _settle_left(self) -> bool:
        """Whether the server is still there after."""
        try:
            if settled := settle_left(_server()):
                log.info("Prefect: %d runs of processes that are gone were ended", settled)
        except Exception as error:
            log.warning("Prefect server lost (%s); running plainly", first_line(error))
            return False
        return True


monitor = Monitor()


def _keep(note: Note) -> None:
    """Monitoring must not end the work, on a full disk either."""
    with suppress(OSError, StudyError):
        note.write()


def _server() -> str:
    """What a note calls the server: ours may be on another port tomorrow."""
    url = os.environ["PREFECT_API_URL"]
    return "here" if url == address_of("prefect") else url


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _stop_sending_logs() -> None:
    """Takes Prefect's handlers off all loggers, so that a lost server is not asked to take every further line."""
    for logger in [logging.getLogger(name) for name in logging.root.manager.loggerDict]:
        for handler in list(logger.handlers):
            if type(handler).__module__.startswith("prefect"):
                logger.removeHandler(handler)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_TIMEOUT_S) as response:
            return json.load(response) is True
    except (OSError, urllib.error.URLError, ValueError):
        return False
