"""How much a request may hold and how long it may work; what is more is refused.

Rows, methods and time are limited over HTTP only: there one client's request holds up all others, while whoever calls a
loaded model in process spends memory and time of his own, and may well want a whole test set in one call.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT

from pipeline.serving.refusals import Refusal

MAX_BODY_BYTES = 32 * 2**20  # of an HTTP request
MAX_FILE_BYTES = MAX_BODY_BYTES * 3 // 4  # of an image file: base64 makes it a body
MAX_ROWS = 1024
MAX_HEATMAP_ROWS = 64  # each is answered with a PNG and explained alone, others waiting meanwhile
# Thousands of passes for one image: minutes with a large model, in which nobody else gets a heatmap. The timeout of
# MLflow's server would not help, for it answers 504 but cannot stop the thread.
TOO_SLOW_FOR_HTTP = ("rise",)

Item = TypeVar("Item")


def in_server() -> bool:
    return bool(_MLFLOW_IS_IN_SERVING_ENVIRONMENT.get())


def allowed_methods(methods: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in methods if not (in_server() and name in TOO_SLOW_FOR_HTTP))


def check_rows(count: int, return_heatmap: bool) -> None:
    """
    Raises:
        Refusal: a server is asked for more rows than it answers at a time.
    """
    most, what = (MAX_HEATMAP_ROWS, "rows with heatmaps") if return_heatmap else (MAX_ROWS, "rows")
    if in_server() and count > most:
        raise Refusal(f"{count:,} {what} are more than the {most:,} of a request; send them in several")


def deadline() -> float:
    """When MLflow's server gives up a request that begins now, by `time.monotonic`; in process never."""
    return time.monotonic() + MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get() if in_server() else math.inf


def until(deadline: float, items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as somebody waits for what is made of them.

    Raises:
        Refusal: the deadline has passed.
    """
    for item in items:
        if time.monotonic() > deadline:
            raise Refusal("the request takes longer than the server's time limit; send fewer images at a time")
        yield item
