"""Runs the steps of a stage as a Prefect flow with tasks when a server answers, and plainly otherwise.

Monitoring never decides whether a stage succeeds: every step runs once whatever the server does, and its own result or
error is the one that counts. A server lost in the middle costs the view; the rest of the stage runs plainly.
"""

import functools
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from flows.engine import at_call, call_of, engine
from flows.flow_runs import run_tagged, tags_of
from flows.monitor import first_line, monitor
from pipeline.errors import StudyError, UnreachableError
from pipeline.params import load_params

log = logging.getLogger("flows")


@dataclass(frozen=True)
class Step:
    """A plain function that Prefect shows as a task when it is there. `retries` only where trying again can help."""

    function: Callable[..., Any]
    retries: int = 0
    pause_s: float = 5  # before the second try; each further pause is twice as long
    called: str = ""  # as the task is called in Prefect; else the function's name in words
    heavy: bool = False  # it runs on a worker of the cluster where there is one; its function is one that a module has

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.heavy and engine.is_up:
            call = call_of(self.name, self.function, *args, **kwargs)
            for _, value in engine.outcomes([call]):
                return value
            with at_call(call):  # the cluster lost it
                return self._here(*args, **kwargs)
        return self._here(*args, **kwargs)

    def _here(self, *args: Any, **kwargs: Any) -> Any:
        return _run_once(self._attempts, self._watched, args, kwargs)

    def _attempts(self, *args: Any, **kwargs: Any) -> Any:
        pauses = [self.pause_s * 2**attempt for attempt in range(self.retries)]
        for pause in pauses:
            try:
                return self.function(*args, **kwargs)
            except Exception as error:
                if isinstance(error, StudyError) and not isinstance(error, UnreachableError):
                    raise  # the user has to act; trying again cannot help
                log.warning("%s failed (%s); trying again in %g s", self.name, first_line(error), pause)
                time.sleep(pause)
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        return self.called or self.function.__name__.replace("_", " ")

    def _watched(self, function: Callable[..., None]) -> Callable[..., None]:
        from prefect import task

        return task(name=self.name, task_run_name=self.name, persist_result=False)(function)


@dataclass(frozen=True)
class Flow:
    """A stage: its steps in order, run as a Prefect flow when a server is there."""

    function: Callable[..., Any]
    run_name: str | Callable[..., str]
    heavy: bool = False  # it has steps or shards for a cluster

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run_name = self.run_name if isinstance(self.run_name, str) else self.run_name(*args, **kwargs)
        tags = tags_of(self.name, inspect.signature(self.function).bind(*args, **kwargs).arguments)
        with engine.up(load_params()) if self.heavy else nullcontext():
            return _run_once(self.function, functools.partial(self._watched, run_name, tags), args, kwargs)

    @property
    def name(self) -> str:
        return self.function.__name__

    def _watched(self, run_name: str, tags: Sequence[str], function: Callable[..., None]) -> Callable[..., None]:
        from prefect import flow

        watched = flow(name=self.name, flow_run_name=run_name, persist_result=False)(function)
        return functools.partial(run_tagged, watched, tags)


def stage(run_name: str | Callable[..., str], heavy: bool = False) -> Callable[[Callable[..., Any]], Flow]:
    """Decorator: the function is a stage; `run_name` may use its arguments, "fetch {dataset}", or be made from them."""
    return lambda function: Flow(function, run_name, heavy)


@monitor.noted()
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
