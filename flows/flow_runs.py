"""Flow runs as Prefect keeps them: how they are tagged, which run they belong to, and what is hung on them later."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from flows.layout import cell_name
from flows.monitor import monitor

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas import FlowRun

Found = TypeVar("Found")

VERSIONS_PAGE = "model-versions"  # key of the page of `publish` that links to all of them
STUDY_TASK_RUN = "STUDY_TASK_RUN"  # environment variable: the study's task that this process does the work of


def asked(ask: Callable[["SyncPrefectClient"], Found]) -> Found | None:
    """What Prefect's API says; None without a server, and for one that is lost, which is given up."""
    if not monitor.on():
        return None
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            return ask(client)
    except Exception as error:
        monitor.give_up(error)
        return None


def tags_of(stage: str, told: Mapping[str, Any]) -> list[str]:
    """`stage: finetune`, `dataset: busi`, ...; by `cell: busi-dino` the UI finds all runs of a cell.

    Args:
        told: arguments of the stage.
    """
    tags = {"stage": stage} | {name: told[name] for name in ("dataset", "model", "seed") if told.get(name) is not None}
    if "model" in tags and "dataset" in tags:
        tags["cell"] = cell_name(tags["dataset"], tags["model"], told.get("seed"))
    return [f"{name}: {value}" for name, value in tags.items()]


def run_tagged(flow: "Flow", tags: Sequence[str], *args: Any, **kwargs: Any) -> None:
    """Runs a flow, as a child of the study's task where this process was started by a study."""
    from prefect.client.orchestration import get_client
    from prefect.context import TagsContext
    from prefect.flow_engine import run_flow
    from prefect.utilities.callables import get_call_parameters

    parameters, study_task = get_call_parameters(flow.fn, args, kwargs), os.environ.get(STUDY_TASK_RUN)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(
            flow,
            parameters=flow.serialize_parameters(parameters),
            parent_task_run_id=UUID(study_task) if study_task else None,
            tags={*tags, *TagsContext.get().current_tags},
        )
    run_flow(flow, run, parameters)


def hang_page(client: "SyncPrefectClient", tags: Sequence[str], key: str, text: str, title: str) -> None:
    """A page of Markdown on the newest run with these tags that came to its end; once, however often it is asked."""
    from prefect.client.schemas.actions import ArtifactCreate
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey

    if (run := newest_run(client, tags)) is None:
        return
    here = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]), key=ArtifactFilterKey(any_=[key]))
    if text not in [artifact.data for artifact in client.read_artifacts(artifact_filter=here)]:
        page = ArtifactCreate(type="markdown", key=key, data=text, description=title, flow_run_id=run.id)
        client.create_artifact(page)


def newest_run(client: "SyncPrefectClient", tags: Sequence[str]) -> "FlowRun | None":
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    completed = {"tags": {"all_": list(tags)}, "state": {"type": {"any_": ["COMPLETED"]}}}
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(completed), sort=FlowRunSort.START_TIME_DESC, limit=1
    )
    return runs[0] if runs else None


def newest_page(client: "SyncPrefectClient", key: str) -> str | None:
    """The Markdown that was last shown under the key."""
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])), sort=ArtifactSort.CREATED_DESC, limit=1
    )
    return str(found[0].data) if found else None
