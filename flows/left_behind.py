"""Flow runs that Prefect was not told the end of: their process was killed, or the server was away.

A process notes its runs in .runs/prefect before they start, by a tag that they carry, and takes the note away when the
server has their final state. The next process that meets the server settles the notes of those that are gone.
"""

import os
import socket
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from pydantic import ValidationError

from flows.layout import RUNS
from flows.processes import Process, process_of
from pipeline.files import write_text

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas import FlowRun, State, TaskRun

NOTES = RUNS / "prefect"
PROCESS = "process: "  # begin of the tag by which the flow runs of a process are found
RUN_OF_WORKER = "PREFECT__FLOW_RUN_ID"  # by which Prefect's worker tells a process what it is to do
TASKS_AT_A_TIME = 200  # the most that Prefect's server gives


class Note(Process):
    """Of the flow runs of one process."""

    tag: str  # that they carry
    host: str
    server: str  # address, or a name where the address may change
    ended: str = ""  # the state that its run ended in; empty while it runs

    @property
    def path(self) -> Path:
        return NOTES / f"{self.pid}-{self.started}.json"

    @property
    def is_left(self) -> bool:
        return self.host == socket.gethostname() and not self.found()

    def write(self) -> None:
        write_text(self.path, self.model_dump_json(indent=2) + "\n")


@cache
def process_tag() -> str:
    """By which the flow runs of this process are found; the same for all of them, and no other process has it."""
    process = psutil.Process()
    known = f"{socket.gethostname()} {process.pid} {process.create_time()}"
    return f"{PROCESS}{process.pid}-{sha256(known.encode()).hexdigest()[:8]}"


def own_note(server: str) -> Note:
    process = process_of(os.getpid())
    return Note(tag=process_tag(), host=socket.gethostname(), server=server, **process.model_dump())


def tag_running(tag: str) -> None:
    """Gives the tag to the flow run that this process does, in place of that of a process that has tried before."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    with get_client(sync_client=True) as client:
        others = [each for each in client.read_flow_run(flow_run.id).tags if not each.startswith(PROCESS)]
        client.update_flow_run(flow_run.id, tags=[*others, tag])


def settle_left(server: str) -> int:
    """Ends, in Prefect, the runs of processes that are gone; their number comes back. Quick where there are none."""
    notes = [note for note in _notes() if note.server == server]
    for note in notes:
        if note.host != socket.gethostname() and _is_settled(note):
            note.path.unlink(missing_ok=True)  # of a machine, or a pod, that may never come back for it
    return sum(settle(note) for note in notes if note.is_left)


def settle(note: Note) -> int:
    """Gives the noted runs that have no final state theirs, and takes the note away; their number comes back."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = [run for run in _runs_of(client, note.tag) if is_unended(run)]
        for run in runs:
            _end(client, run, note)
    note.path.unlink(missing_ok=True)
    return len(runs)


def is_unended(run: "FlowRun") -> bool:
    """Whether it needs an end: one that is to be tried again does not, nor the one that this process does itself."""
    is_own = str(run.id) == os.environ.get(RUN_OF_WORKER)
    return not is_own and not (run.state and (run.state.is_final() or run.state.is_scheduled()))


def _is_settled(note: Note) -> bool:
    """Whether it has runs, and all of them their end."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        runs = _runs_of(client, note.tag)
    return bool(runs) and not any(is_unended(run) for run in runs)


def _runs_of(client: "SyncPrefectClient", tag: str) -> list["FlowRun"]:
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    return client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))


def _end(client: "SyncPrefectClient", run: "FlowRun", note: Note) -> None:
    """The run and those of its tasks that are not ended."""
    state = _final_state(note)
    for task in _tasks_of(client, run):
        if not (task.state and task.state.is_final()):
            client.set_task_run_state(task.id, state, force=True)
    client.set_flow_run_state(run.id, state, force=True)


def _tasks_of(client: "SyncPrefectClient", run: "FlowRun") -> list["TaskRun"]:
    """All of them: the server gives so many at a time."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    own, found = FlowRunFilter(id=FlowRunFilterId(any_=[run.id])), list["TaskRun"]()
    while page := client.read_task_runs(flow_run_filter=own, limit=TASKS_AT_A_TIME, offset=len(found)):
        found += page
    return found


def _final_state(note: Note) -> "State":
    from prefect import states

    made: dict[str, State] = {
        "Completed": states.Completed(message="ended while the server was away"),
        "Failed": states.Failed(message="failed while the server was away; the reason is in the terminal"),
    }
    return made.get(note.ended, states.Crashed(message=f"killed: process {note.pid} of {note.host} is gone"))


def _notes() -> Iterator[Note]:
    for path in sorted(NOTES.glob("*.json")):
        try:
            yield Note.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            continue  # another process has just settled it, or one with other code has written it
