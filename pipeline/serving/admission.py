"""Which HTTP requests are let in: some are refused by their head, and bodies are read up to a limit."""

from dataclasses import dataclass
from http import HTTPStatus

from mlflow.pyfunc.scoring_server import CONTENT_TYPE_JSON, CONTENT_TYPE_PARQUET
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from pipeline.serving.limits import MAX_BODY_BYTES

PREDICTION_PATH = "/invocations"


@dataclass(frozen=True)
class HttpRefusal:
    status: HTTPStatus
    line: str


@dataclass(frozen=True)
class Admission:
    scope: Scope
    body: bytes


TOO_LARGE = HttpRefusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    f"the request is larger than the {MAX_BODY_BYTES:,} bytes that are taken; send fewer or smaller images at a time",
)
# MLflow's server would take CSV, for which a column of any type has no meaning, and stumble over a missing type.
WRONG_TYPE = HttpRefusal(
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"the Content-Type must be {CONTENT_TYPE_JSON} (or {CONTENT_TYPE_PARQUET})"
)


async def admit(scope: Scope, receive: Receive) -> Admission | HttpRefusal:
    """The request, whole; refused by its head, or as soon as its body is too large, whatever its head said."""
    scope = _with_content_type_in_lower_case(scope)
    if refusal := _refusal_by_head(scope):
        return refusal
    body = await _read_body(receive)
    return TOO_LARGE if body is None else Admission(scope, body)


def until_sent(receive: Receive) -> Receive:
    """As `receive`, but it does not wait for more of a client that has sent all."""
    more = True

    async def receive_more() -> Message:
        nonlocal more
        message: Message = await receive() if more else {"type": "http.disconnect"}
        more = message.get("more_body", False)
        return message

    return receive_more


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, as one message; after it whatever the client does next."""
    messages: list[Message] = [{"type": "http.request", "body": body}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


async def discard(receive: Receive) -> None:
    """What the client still sends is thrown away."""
    while (await receive()).get("more_body"):
        pass


def _with_content_type_in_lower_case(scope: Scope) -> Scope:
    """Case means nothing there, but MLflow's server compares letter by letter."""
    headers = [(name, value.lower() if name == b"content-type" else value) for name, value in scope["headers"]]
    return {**scope, "headers": headers}


def _refusal_by_head(scope: Scope) -> HttpRefusal | None:
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        return TOO_LARGE
    content_type = headers.get("content-type", "").partition(";")[0].strip()
    predicts = (scope["method"], scope["path"]) == ("POST", PREDICTION_PATH)
    return WRONG_TYPE if predicts and content_type not in (CONTENT_TYPE_JSON, CONTENT_TYPE_PARQUET) else None


async def _read_body(receive: Receive) -> bytes | None:
    """None where it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)
