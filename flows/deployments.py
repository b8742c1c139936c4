"""Deployments: flows that are started from the Prefect UI. `python -m flows.deployments` registers what prefect.yaml
says and does the work of its pool; `make ui` runs it in the background.
"""

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import httpx
from prefect import flow
from pydantic import Field

from flows.command import run_main
from flows.monitor import monitor
from flows.promote import Options, promote
from flows.study import study
from flows.ui import POOL
from pipeline.errors import StudyError
from pipeline.params import load_params

if TYPE_CHECKING:
    Dataset = str
    Model = str
else:  # the choices of the forms
    Dataset = Literal[load_params().study.datasets]
    Model = Literal[load_params().study.models]

ALL: list[str] = []


@flow(name="study", flow_run_name="study", persist_result=False)
def study_from_ui(
    workers: Annotated[int, Field(ge=1)] | None = None,
    datasets: list[Dataset] = ALL,
    models: list[Model] = ALL,
) -> None:
    """Bring the study up to date: every stage that is stale, in order, several at a time.

    Args:
        workers: Stages at a time; None for as many as the machine has room for.
        datasets: Only their cells are brought up to date, without the report; empty for the whole study.
        models: The same for models.
    """
    with monitor.noted_from_outside():
        study.function(workers, datasets, models)


@flow(name="promote", flow_run_name="promote {dataset}", persist_result=False)
def promote_with_approval(
    dataset: Dataset,
    alias: Literal["champion", "challenger"] = "champion",
    version: Annotated[int, Field(ge=1)] | None = None,
    why: str = "",
) -> None:
    """Judge all versions of a dataset's classifier, and give the best its alias once a human approves.

    Args:
        dataset: Whose classifier.
        alias: What the best becomes.
        version: Only this one, which must pass; None for the best that passes.
        why: A reason for the log; the form of the approval asks again.
    """
    wanted = None if version is None else str(version)
    with monitor.noted_from_outside():
        promote.function(dataset, Options(alias=alias, version=wanted, why=why, approve=True))


def work() -> None:
    """Registers the deployments, then waits for their runs until it is stopped.

    Raises:
        StudyError: there is no Prefect server, or it refuses the deployments.
    """
    if not monitor.on():
        raise StudyError("no Prefect server is up; start one with `make ui`")
    prefect = [sys.executable, "-m", "prefect"]
    _make_pool()
    # Other processes: this one has read Prefect's settings before the server's address was known.
    if subprocess.run([*prefect, "--no-prompt", "deploy", "--all"]).returncode:
        raise StudyError("the Prefect server refuses the deployments of prefect.yaml; its reason is above")
    worker = [*prefect, "worker", "start", "--pool", POOL, "--type", "process", "--name", socket.gethostname()]
    os.execve(sys.executable, worker, os.environ)


def _make_pool() -> None:
    """By the API: `prefect work-pool create` makes the server ask raw.githubusercontent.com which types there are."""
    from prefect.workers.process import ProcessWorker

    pool = {"name": POOL, "type": "process", "base_job_template": ProcessWorker.get_default_base_job_template()}
    answer = httpx.post(f"{os.environ['PREFECT_API_URL']}/work_pools/", json=pool)
    if answer.is_error and answer.status_code != httpx.codes.CONFLICT:  # that is: it is there already
        raise StudyError(f"the Prefect server refuses the work pool {POOL}: {answer.text}")


if __name__ == "__main__":
    run_main(work)
