"""Runs the steps of a stage as a Prefect flow with tasks when a server answers, and plainly otherwise.

Monitoring never decides whether a stage succeeds: every step runs once whatever the server does, and its own result or
error is the one that counts. A server lost in the middle costs the view; the rest of the stage runs plainly.
"""

import argparse
import base64
import functools
import inspect
import json
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pipeline  # noqa: F401  (its import switches telemetry off, before Prefect is imported)
from flows.command import run_main
from flows.durations import slug, timed
from flows.servers import address_of
from pipeline.errors import StudyError
from pipeline.params import load_params

log = logging.getLogger("flows")

HEALTH_TIMEOUT_S = 2
PROGRESS_INTERVAL_S = 2

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

    def on(self) -> bool:
        if self._on is None:
            self._on = self._connect()
        return self._on

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
        return True


monitor = Monitor()


@dataclass(frozen=True)
class Step:
    """A plain function that Prefect shows as a task when it is there. `retries` only where trying again can help."""

    function: Callable[..., Any]
    retries: int = 0
    retry_delay_s: float = 5

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _run_once(self._attempts, self._watched, args, kwargs)

    def _attempts(self, *args: Any, **kwargs: Any) -> Any:
        for attempt in range(self.retries + 1):
            try:
                return self.function(*args, **kwargs)
            except StudyError:
                raise  # the user has to act; trying again cannot help
            except Exception as error:
                if attempt == self.retries:
                    raise
                log.warning("%s failed (%s); trying again in %g s", self.name, first_line(error), self.retry_delay_s)
                time.sleep(self.retry_delay_s)

    @property
    def name(self) -> str:
        return self.function.__name__

    def _watched(self, function: Callable[..., None]) -> Callable[..., None]:
        from prefect import task

        return task(name=self.name, task_run_name=self.name, persist_result=False)(function)


@dataclass(frozen=True)
class Flow:
    """A stage: its steps in order, run as a Prefect flow when a server is there."""

    function: Callable[..., Any]
    run_name: str | Callable[..., str]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run_name = self.run_name if isinstance(self.run_name, str) else self.run_name(*args, **kwargs)
        return _run_once(self.function, functools.partial(self._watched, run_name), args, kwargs)

    @property
    def name(self) -> str:
        return self.function.__name__

    def _watched(self, run_name: str, function: Callable[..., None]) -> Callable[..., None]:
        from prefect import flow

        return flow(name=self.name, flow_run_name=run_name, persist_result=False)(function)


def stage(run_name: str | Callable[..., str]) -> Callable[[Callable[..., Any]], Flow]:
    """Decorator: the function is a stage; `run_name` may use its arguments, "fetch {dataset}", or be made from them."""
    return lambda function: Flow(function, run_name)


def _run_once(
    function: Callable[..., Any],
    watched: Callable[[Callable[..., None]], Callable[..., None]],
    args: tuple,
    kwargs: dict,
) -> Any:
    """The function's own result or exception, seen by Prefect where possible; never run twice."""
    if not monitor.on():
        return function(*args, **kwargs)
    outcome: dict[str, Any] = {}

    @functools.wraps(function)
    def record(*args: Any, **kwargs: Any) -> None:
        try:
            outcome["value"] = function(*args, **kwargs)
        except BaseException as error:
            outcome["error"] = error
            raise

    del record.__wrapped__  # Prefect would inspect the return type, and values stay in this process
    record.__signature__ = inspect.signature(function).replace(return_annotation=None)  # type: ignore[attr-defined]
    try:
        watched(record)(*args, **kwargs)
    except Exception as error:
        if "error" not in outcome:
            monitor.give_up(error)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"] if "value" in outcome else function(*args, **kwargs)


def progress_of(what: str) -> Callable[[int, int], None]:
    """A callback (done, total) that moves a progress bar in the Prefect UI; does nothing without a server."""
    state: dict[str, Any] = {"shown": 0.0}

    def show(done: int, total: int) -> None:
        if monitor.on() and (done == total or time.monotonic() - state["shown"] > PROGRESS_INTERVAL_S):
            state["shown"] = time.monotonic()
            _artifact(lambda artifacts: _move_bar(artifacts, state, what, 100 * done / max(total, 1)))

    return show


def show_table(key: str, rows: list[dict[str, Any]], title: str) -> None:
    """A table on the flow run's page."""
    _artifact(lambda artifacts: artifacts.create_table_artifact(table=rows, key=slug(key), description=title))


def show_picture(key: str, path: Path, title: str) -> None:
    """A small picture on the flow run's page, carried inside the artifact so that no other server is needed."""
    kind = "jpeg" if path.suffix in (".jpg", ".jpeg") else "png"
    data = base64.b64encode(path.read_bytes()).decode()
    url = f"data:image/{kind};base64,{data}"
    _artifact(lambda artifacts: artifacts.create_image_artifact(image_url=url, key=slug(key), description=title))


def show_markdown(key: str, text: str, title: str) -> None:
    """A page of Markdown on the flow run's page."""
    _artifact(lambda artifacts: artifacts.create_markdown_artifact(markdown=text, key=slug(key), description=title))


def main(flow: Flow) -> None:
    """Command line of a stage: an option per argument of its function, a flag if bool, required if without default."""
    run_main(lambda: _run_stage(flow, vars(_parser(flow).parse_args())))


def _run_stage(flow: Flow, arguments: dict[str, Any]) -> None:
    told = {name: value for name, value in arguments.items() if value not in (None, False)}
    names = "-".join(name if value is True else str(value) for name, value in told.items())
    with nullcontext() if True in told.values() else timed(f"{flow.name} {names}".rstrip()):  # a flag: not the stage
        flow(**arguments)


def _parser(flow: Flow) -> argparse.ArgumentParser:
    params = load_params()
    known = {"dataset": tuple(params.datasets), "model": tuple(params.models)}
    parser = argparse.ArgumentParser(prog=f"python -m flows.{flow.name}", description=inspect.getdoc(flow.function))
    for name, argument in inspect.signature(flow.function).parameters.items():
        if argument.annotation is bool:
            parser.add_argument(f"--{name}", action="store_true")
            continue
        required = argument.default is argument.empty
        parser.add_argument(
            f"--{name}",
            required=required,
            default=None if required else argument.default,
            type=int if int in (argument.annotation, *get_args(argument.annotation)) else str,
            choices=known.get(name),
        )
    return parser


def _stop_sending_logs() -> None:
    """Takes Prefect's handlers off all loggers, so that a lost server is not asked to take every further line."""
    for logger in [logging.getLogger(name) for name in logging.root.manager.loggerDict]:
        for handler in list(logger.handlers):
            if type(handler).__module__.startswith("prefect"):
                logger.removeHandler(handler)


def _artifact(make: Callable[[Any], None]) -> None:
    """Makes a Prefect artifact; the picture of the work must not end the work."""
    if not monitor.on():
        return
    try:
        from prefect import artifacts

        make(artifacts)
    except Exception as error:
        monitor.give_up(error)


def _move_bar(artifacts: Any, state: dict[str, Any], what: str, percent: float) -> None:
    if "id" in state:
        artifacts.update_progress_artifact(artifact_id=state["id"], progress=percent)
    else:
        state["id"] = artifacts.create_progress_artifact(progress=percent, key=slug(what), description=what)


def first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=HEALTH_TIMEOUT_S) as response:
            return json.load(response) is True
    except (OSError, urllib.error.URLError, ValueError):
        return False
