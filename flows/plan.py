"""The stages of a study as tasks of its flow run: all seen from the start, each with what it waits for.

Monitoring never decides: without a server, or with one lost in the middle, the same stages run in the same order.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from flows.flow_runs import STUDY_TASK_RUN, asked
from flows.runner import Step
from flows.stages import reproduce
from pipeline.clock import duration
from pipeline.errors import StudyError

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas import TaskRun

WAITS = "waits for"

log = logging.getLogger("flows")


class StageError(StudyError):
    """A stage ended with an exit code that is not 0."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{stage} ended with exit code {code}; the reason is in its own run, or in the terminal")
        self.code = code


@dataclass(frozen=True)
class StageStep(Step):
    """Runs a stage as the task that was planned for it."""

    task_run: "TaskRun | None" = None  # None: no server was there to plan it

    def _watched(self, function: Callable[..., None]) -> Callable[..., None]:
        from prefect import task
        from prefect.task_engine import run_task_sync

        shown: Task[..., Any] = task(name=self.name, task_run_name=self.name, persist_result=False)(function)

        def run() -> None:
            run_task_sync(shown, task_run=self.task_run)

        return run


@dataclass
class Plan:
    tasks: Mapping[str, "TaskRun"]
    context: Context  # of the study's flow run, for the threads that run stages
    begun: set[str] = field(default_factory=set)

    def reproduce(self, stage: str, environment: Mapping[str, str]) -> int:
        """Runs one stage; the exit code comes back."""
        self.begun.add(stage)
        if planned := self.tasks.get(stage):
            asked(lambda client: _lead_to(client, planned))
        told = environment if planned is None else {**environment, STUDY_TASK_RUN: str(planned.id)}
        step = StageStep(lambda: _run_stage(stage, told), called=stage, task_run=planned)
        try:
            self.context.copy().run(step)
        except StageError as error:
            return error.code
        return 0

    def end(self, client: "SyncPrefectClient") -> None:
        """What was planned and not begun waits no longer."""
        from prefect.client.schemas.objects import State, StateType

        state = State(type=StateType.CANCELLED, name="Not run", message="the study ended before it could begin")
        for stage in self.tasks.keys() - self.begun:
            client.set_task_run_state(self.tasks[stage].id, state, force=True)


@contextmanager
def planned(waits: Mapping[str, set[str]]) -> Iterator[Plan]:
    """The stages as tasks of the running flow; those that were not begun by the end of the block are marked so.

    Args:
        waits: stage -> stages that must be done before it.
    """
    tasks = asked(lambda client: _plan(client, waits)) or {}
    plan = Plan(tasks, copy_context())
    try:
        yield plan
    finally:
        asked(plan.end)


def _plan(client: "SyncPrefectClient", waits: Mapping[str, set[str]]) -> dict[str, "TaskRun"]:
    from prefect import task
    from prefect.client.schemas.objects import TaskRunResult
    from prefect.runtime import flow_run

    tasks, needed = dict[str, "TaskRun"](), direct(waits)
    for stage in TopologicalSorter(waits).static_order():
        tasks[stage] = client.create_task_run(
            task(name=stage)(_run_stage),
            flow_run.id,
            dynamic_key=stage,
            name=stage,
            task_inputs={WAITS: [TaskRunResult(id=tasks[each].id) for each in sorted(needed[stage])]},
        )
    return tasks


def _lead_to(client: "SyncPrefectClient", task: "TaskRun") -> None:
    """Prefect draws a stage as its own flow run, and so no edge from the task of it: the edges begin at those runs."""
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRunResult, TaskRunResult

    needed = [each.id for each in task.task_inputs[WAITS] if isinstance(each, TaskRunResult)]
    own = FlowRunFilter.model_validate({"parent_task_run_id": {"any_": needed}})
    runs = client.read_flow_runs(flow_run_filter=own) if needed else []
    task.task_inputs[WAITS] += [FlowRunResult(id=run.id) for run in runs]


def direct(waits: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Without what a stage waits for by way of another."""
    whole = dict[str, set[str]]()
    for stage in TopologicalSorter(waits).static_order():
        whole[stage] = waits[stage].union(*(whole[each] for each in waits[stage]))
    return {stage: needed - set().union(*(whole[each] for each in needed)) for stage, needed in waits.items()}


def _run_stage(stage: str, environment: Mapping[str, str]) -> None:
    """
    Raises:
        StageError: it failed.
    """
    began = time.monotonic()
    if code := reproduce(stage, environment):
        raise StageError(stage, code)
    log.info("%s: done in %s", stage, duration(time.monotonic() - began))
