"""ASGI middleware before MLflow's scoring server: limits on bodies, errors in one line, the version in every answer."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

LINGER_S = 10  # for which what a refused client still sends is thrown away: it would not see the answer before


class Gate:
    def __init__(self, application: ASGIApp, headers: Mapping[str, str]) -> None:
        """
        Args:
            headers: of every answer.
        """
        self.application = application
        self.headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        send = _with_headers(send, self.headers)
        refused = refused_by_head(scope)
        request = until_sent(receive)
        body = None if refused else await read_body(request)
        if body is None:
            await _refuse(refused or TOO_LARGE, request, send)
        else:
            await self.application(scope, replayed(body, receive), _with_errors_in_one_line(send))


async def _refuse(refused: RefusedRequest, receive: Receive, send: Send) -> None:
    """Answers at once, and then lets the client finish."""
    body = error_body(refused.status.name, refused.line).encode()
    await send(_start(refused.status, body))
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        await asyncio.wait_for(discard(receive), LINGER_S)
    await send({"type": "http.response.body"})


def _start(status: int, body: bytes) -> Message:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return {"type": "http.response.start", "status": int(status), "headers": headers}


def _with_headers(send: Send, headers: list[tuple[bytes, bytes]]) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_with_headers


def _with_errors_in_one_line(send: Send) -> Send:
    """An error is held back until its body is whole, and is then sent in our form."""
    status, body = 200, b""

    async def send_checked(message: Message) -> None:
        nonlocal status, body
        status = message.get("status", status)
        if status < 400:
            await send(message)
        elif message["type"] == "http.response.body":
            body += message.get("body", b"")
            if not message.get("more_body"):
                answered = as_error_body(status, body).encode()
                await send(_start(status, answered))
                await send({"type": "http.response.body", "body": answered})

    return send_checked
