"""`mlflow models serve`, mended: it answers wrong requests with their data and stack traces, and takes any length.

There MLflow starts the server and we are only loaded, after which it makes its routes. The decorator that it gives the
route that predicts is replaced by one that puts our gate before the route.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from functools import wraps

from mlflow.pyfunc import scoring_server
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.serving.gate import Gate

logger = logging.getLogger(__name__)

CATCH = "_async_catch_mlflow_exception"  # the decorator
Route = Callable[[Request], Awaitable[Response]]
Catch = Callable[[Route], Route]


def is_mlflow_models_serve() -> bool:
    """Whether this process was started by `mlflow models serve`, or in a container that MLflow made."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def mend_errors() -> None:
    """Takes effect for servers that are made after it; once is enough."""
    catch = getattr(scoring_server, CATCH, None)
    if catch is None:
        logger.warning("this MLflow's scoring server is not the one known here: its errors are shown as they are")
    elif not hasattr(catch, "__wrapped__"):  # what `gated` leaves, even if this module is loaded anew
        setattr(scoring_server, CATCH, gated(catch))


def gated(catch: Catch) -> Catch:
    """The decorator `catch`, for a route that a gate stands before."""

    @wraps(catch)
    def decorated(route: Route) -> Route:
        gate = Gate(_application_of(catch(route)), {})

        @wraps(route)
        async def answer(request: Request) -> Response:
            return _AnswerOf(gate)

        return answer

    return decorated


def _application_of(route: Route) -> ASGIApp:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        response = await route(Request(scope, receive))
        await response(scope, receive, send)

    return application


class _AnswerOf(Response):
    """What the application answers; it reads the request itself, when the answer is sent."""

    def __init__(self, application: ASGIApp) -> None:
        super().__init__()
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)
