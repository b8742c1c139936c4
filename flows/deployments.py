"""Deployments: flows that are started from the Prefect UI, served by `python -m flows.deployments` beside `make ui`."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from prefect import flow
from pydantic import Field

from flows.command import run_main
from flows.monitor import monitor
from flows.promote import Options, promote
from pipeline.errors import StudyError
from pipeline.params import load_params

if TYPE_CHECKING:
    Dataset = str
else:
    Dataset = Literal[tuple(load_params().datasets)]  # the choices of the form

DEPLOYMENT = "promote"


@flow(name=DEPLOYMENT, flow_run_name="promote {dataset}", persist_result=False)
def promote_with_approval(
    dataset: Dataset,
    alias: Literal["champion", "challenger"] = "champion",
    version: Annotated[int, Field(ge=1)] | None = None,
    why: str = "",
) -> None:
    """Judge all versions of a dataset's classifier, and give the best its alias once a human approves.

    Leave the version empty for the best that passes.
    """
    wanted = None if version is None else str(version)
    promote.function(dataset, Options(alias=alias, version=wanted, why=why, approve=True))


def serve() -> None:
    """Waits for runs of the deployment until it is stopped.

    Raises:
        StudyError: there is no Prefect server.
    """
    if not monitor.on():
        raise StudyError("no Prefect server is up; start one with `make ui`")
    entrypoint = f"{os.path.relpath(__file__)}:{promote_with_approval.fn.__name__}"
    served = [sys.executable, "-m", "prefect", "flow", "serve", entrypoint, "--name", DEPLOYMENT]
    # Another process: this one has read Prefect's settings before the server's address was known.
    os.execve(sys.executable, served, os.environ)


if __name__ == "__main__":
    run_main(serve)
