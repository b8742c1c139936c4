"""A human's word, waited for on the flow run's page in the Prefect UI; here alone a server is needed."""

import logging
from concurrent.futures import Future, wait
from contextvars import copy_context
from threading import Thread
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from pydantic import BaseModel

from flows.monitor import first_line, monitor
from pipeline.errors import RefusalError, StudyError

if TYPE_CHECKING:
    from prefect.input import RunInput

Answer = TypeVar("Answer", bound=BaseModel)

log = logging.getLogger("flows")

ANSWER_TIMEOUT_S, ANSWER_INTERVAL_S = 7 * 24 * 3600, 2  # that a human has, and between looks for the answer


def ask_human(question: str, answer: Answer) -> Answer:
    """Pauses the flow run until a human fills in the form on its page.

    Args:
        question: Markdown, shown above the form, which holds `answer` at first.

    Raises:
        StudyError: there is no server, or it is lost while waiting.
        RefusalError: nobody answered in time, or the flow run was cancelled.
    """
    if not monitor.on():
        raise StudyError("an approval is given in the Prefect UI, and no server is up; start one with `make ui`")
    from httpx import HTTPError
    from prefect.exceptions import FlowPauseTimeout
    from prefect.input import RunInput

    form = RunInput.subclass_from_base_model_type(type(answer)).with_initial_data(question, **answer.model_dump())
    log.info("waiting for a human: Resume, on the run's page in the Prefect UI")
    try:
        given = _filled_in(form)
    except FlowPauseTimeout:
        raise RefusalError("nobody answered in time; nothing was done") from None
    except HTTPError as error:
        raise StudyError(f"the Prefect server was lost while waiting ({first_line(error)}); run again") from None
    return type(answer).model_validate(given.model_dump())


def _filled_in(form: "type[RunInput]") -> "RunInput":
    """Prefect's own wait goes on after a run is cancelled, so it is left to a thread, and the run is watched here."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    run_id, filled_in = UUID(flow_run.id), Future()  # type: ignore[var-annotated]
    Thread(target=copy_context().run, args=(_pause, form, filled_in), daemon=True).start()
    with get_client(sync_client=True) as client:
        while not wait([filled_in], ANSWER_INTERVAL_S).done:
            state = client.read_flow_run(run_id).state
            if state and (state.is_cancelling() or state.is_cancelled()):
                raise RefusalError("the flow run was cancelled; nothing was done")
    return filled_in.result()


def _pause(form: "type[RunInput]", filled_in: Future) -> None:
    from prefect.flow_runs import pause_flow_run

    try:
        filled_in.set_result(pause_flow_run(form, timeout=ANSWER_TIMEOUT_S, poll_interval=ANSWER_INTERVAL_S))
    except BaseException as error:
        filled_in.set_exception(error)
