"""MLflow's scoring server, mended: it answers wrong requests with their data and stack traces, and takes any length.

All of its errors pass through one function, which is replaced before the server makes its routes. Under
`mlflow models serve` that is while it loads the model, for then MLflow starts the server and we are only loaded.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from functools import wraps
from http import HTTPStatus

from mlflow.pyfunc import scoring_server
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from pipeline.serving.admission import (
    TOO_LARGE,
    RefusedRequest,
    discard,
    read_body,
    refused_by_head,
    replayed,
    until_sent,
)
from pipeline.serving.refusals import as_error_body, error_body

logger = logging.getLogger(__name__)

CATCH = "_async_catch_mlflow_exception"  # a decorator of the route that predicts
Route = Callable[[Request], Awaitable[Response]]
Catch = Callable[[Route], Route]


def is_mlflow_models_serve() -> bool:
    """Whether this process was started by `mlflow models serve`, or in a container that MLflow made."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def mend_errors() -> None:
    """Takes effect for servers that are made after it."""
    catch = getattr(scoring_server, CATCH, None)
    if catch is None:
        logger.warning("this MLflow's scoring server is not the one known here: its errors are shown as they are")
    else:
        setattr(scoring_server, CATCH, with_errors_in_one_line(catch))


def with_errors_in_one_line(catch: Catch) -> Catch:
    """The decorator `catch`, with every error in our form and limits on bodies."""

    def decorated(route: Route) -> Route:
        caught = catch(route)

        @wraps(route)
        async def answer(request: Request) -> Response:
            refused = refused_by_head(request.scope)
            receive = until_sent(request.receive)
            body = None if refused else await read_body(receive)
            if body is None:
                return await _refuse(refused or TOO_LARGE, receive)
            try:
                response = await caught(Request(request.scope, replayed(body, request.receive)))
            except RecursionError:
                return _error(HTTPStatus.BAD_REQUEST, error_body("BAD_REQUEST", "the JSON is nested too deeply"))
            if response.status_code < HTTPStatus.BAD_REQUEST:
                return response
            return _error(response.status_code, as_error_body(response.status_code, bytes(response.body)))

        return answer

    return decorated


async def _refuse(refused: RefusedRequest, receive: Receive) -> Response:
    """After all that the client sends, for it would not see the answer before."""
    await discard(receive)
    return _error(refused.status, error_body(refused.status.name, refused.line))


def _error(status: int, body: str) -> Response:
    return Response(body, status, media_type="application/json")
