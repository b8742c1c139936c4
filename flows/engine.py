"""The cluster that heavy steps run on: Prefect's Dask or Ray task runner at the address of `runner` in params.yaml.

DVC, records and all bookkeeping stay in this process. A worker is sent a call (a function by its name, paths,
parameters) and sends a small value back: what it computes lies in the files of the project, which all machines see. A
call that the cluster loses is made in this process, so that the cluster never decides the result.
"""

import hashlib
import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.durations import slug
from flows.locks import alone
from flows.monitor import first_line, monitor
from flows.servers import prefect_server
from pipeline.errors import StudyError, UnreachableError
from pipeline.keys import code_sha256
from pipeline.params import Params, RunnerParams
from pipeline.shards import Shard, Spread, one_by_one

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner

log = logging.getLogger("flows")

CONNECT_TIMEOUT_S = 5
FOLDER_VARIABLE = "STUDY_FOLDER"  # on a worker: where the project's folder is there, if not where it is here

_one_at_a_time = Lock()  # the folder and the number of threads belong to a whole process


@dataclass(frozen=True)
class Call:
    """What a worker is to do, and in which project."""

    name: str  # for people
    function: Callable[..., Any]
    arguments: tuple
    options: dict[str, Any]
    folder: Path
    code: str  # hash of the package that is to do it

    @property
    def key(self) -> str:
        """The same for a call that is to do the same, whoever asks for it."""
        told = self.function.__module__, self.function.__qualname__, self.arguments
        return f"{slug(self.name)}-{hashlib.sha256(repr(told).encode()).hexdigest()[:16]}"


class StepError(Exception):
    """A worker made the call, and it failed by what lies in the call: what and where, and its traceback there."""


def make_there(call: Call) -> Any:
    """On a worker: the value of the call, made in the project's folder.

    Raises:
        StudyError: the worker does not see the folder, or runs other code; or one of the call itself.
        StepError: the call failed in another way.
    """
    folder, host = Path(os.environ.get(FOLDER_VARIABLE, call.folder)), socket.gethostname()
    if not (folder / "params.yaml").is_file():
        remedy = f"mount the folder there, or start the worker with {FOLDER_VARIABLE} set to its place"
        raise StudyError(f"{folder}: the worker on {host} sees no project there; {remedy}")
    if code_sha256() != call.code:
        remedy = "bring it to the same commit and start it again"
        raise StudyError(f"{folder}: the worker on {host} runs other code of the pipeline; {remedy}")
    with _one_at_a_time, chdir(folder), at_call(call):
        try:
            return call.function(*call.arguments, **call.options)
        except (StudyError, OSError, MemoryError):
            raise  # the latter two may be the worker's own trouble, so that they count as lost
        except Exception as error:
            told = f"{call.name} failed on {host}: {type(error).__name__}: {first_line(error)}"
            raise StepError(f"{told}\n{traceback.format_exc()}") from None


def at_call(call: Call) -> AbstractContextManager[None]:
    """Waits while another process is at this call: a worker that was taken for lost may still be, and both would write
    the same files. Shards need not wait, as each process writes files of its own."""
    return nullcontext() if isinstance(call.function, Shard) else alone(call.key)


class Engine:
    """The cluster, while a stage with heavy steps runs."""

    def __init__(self) -> None:
        self._runner: TaskRunner | None = None

    @property
    def is_up(self) -> bool:
        return self._runner is not None and monitor.on()

    @contextmanager
    def up(self, params: Params) -> Iterator[None]:
        """A block whose heavy steps run on the cluster, if the params name one.

        Prefect's task runners need a Prefect server; one that is started for it ends with the block.

        Raises:
            StudyError: the package for it is not installed.
            UnreachableError: nothing answers at its address.
        """
        # The processes of one fine-tuning wait for each other, so none of them goes elsewhere.
        if params.runner.kind == "local" or int(os.environ.get("WORLD_SIZE", "1")) > 1:
            yield
            return
        _refuse_absent(params.runner.kind)
        _refuse_silent(params.runner)
        with prefect_server():
            if not monitor.on():
                log.warning("without a Prefect server the cluster cannot be used; all steps run here")
                yield
                return
            with CONNECTED[params.runner.kind](params) as self._runner:
                try:
                    yield
                finally:
                    self._runner = None

    def outcomes(self, calls: Sequence[Call]) -> Iterator[tuple[int, Any]]:
        """Number and value of each call, in the order in which they end; those that the cluster loses are left out.

        Raises:
            StudyError: of a call; the user has to act.
            StepError: a call failed in another way.
        """
        from prefect.futures import as_completed

        numbers: dict[PrefectFuture, int] = {}
        lost: list[BaseException] = []
        done = 0
        try:
            numbers = {self._submit(call): number for number, call in enumerate(calls)}
        except Exception as error:
            lost.append(error)
        for future in as_completed(list(numbers)):
            try:
                value = future.result()
            except (StudyError, StepError):
                raise
            except Exception as error:
                lost.append(error)
                continue
            done += 1
            yield numbers[future], value
        if lost:
            reason = f"{type(lost[0]).__name__}: {first_line(lost[0])}"
            log.warning(
                "the cluster lost %d of %d calls (%s); they are made here", len(calls) - done, len(calls), reason
            )

    def _submit(self, call: Call) -> "PrefectFuture":
        from prefect import task
        from prefect.context import TagsContext

        assert self._runner is not None
        watched = task(name=call.name, task_run_name=call.name, persist_result=False)(make_there)
        with TagsContext(current_tags=set()):  # a worker would ask Prefect for leave to run, for each tag of each task
            return self._runner.submit(watched, {"call": call})


engine = Engine()


def call_of(name: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Call:
    """A call for a worker, in the project that this process runs in."""
    return Call(name, function, arguments, options, Path.cwd(), code_sha256())


def spread() -> Spread:
    """How shards are made now: by the workers of the cluster if one is up."""
    return by_workers if engine.is_up else one_by_one


def by_workers(shards: Sequence[Shard]) -> Iterator[int]:
    """As the type says; what the cluster loses is made in this process."""
    left = set(range(len(shards)))
    if engine.is_up:
        for number, _ in engine.outcomes([call_of(f"shard {shard.path.stem}", shard) for shard in shards]):
            left.remove(number)
            yield number
    for number in sorted(left):
        shards[number]()
        yield number


@contextmanager
def _dask(params: Params) -> Iterator["TaskRunner"]:
    from prefect_dask import DaskTaskRunner

    with DaskTaskRunner(address=params.runner.address) as runner:
        if not runner.client.scheduler_info()["workers"]:
            log.warning("runner.address: %s has no worker yet; waiting for one", params.runner.address)
        yield runner


@contextmanager
def _ray(params: Params) -> Iterator["TaskRunner"]:
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    with RayTaskRunner(address=params.runner.address) as runner:
        has_gpus = params.study.device != "cpu" and "GPU" in ray.cluster_resources()
        with remote_options(num_gpus=int(has_gpus)):  # Ray hides GPUs from a task that does not ask for one
            yield runner


CONNECTED = {"dask": _dask, "ray": _ray}


def _refuse_absent(kind: str) -> None:
    """Looked up without an import: Prefect is told its settings before it is imported."""
    if find_spec(f"prefect_{kind}") is None:
        remedy = f"install it with `pip install --editable '.[{kind}]'`, or set runner.kind: local"
        raise StudyError(f"runner.kind: {kind}: prefect-{kind} is not installed; {remedy}")


def _refuse_silent(runner: RunnerParams) -> None:
    """Without this, the libraries would try for half a minute and then say so on many lines."""
    place = urlsplit(runner.address)
    try:
        socket.create_connection((place.hostname or "", place.port or 0), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        remedy = "start the cluster (docs/machines.md), or set runner.kind: local"
        raise UnreachableError(f"runner.address: {runner.address} does not answer ({error}); {remedy}") from None
