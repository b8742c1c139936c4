"""ASGI middleware before MLflow's scoring server: limits on bodies, errors in one line, the version in every answer."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.serving.admission import HttpRefusal, admit, discard, replayed, until_sent
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
        request = until_sent(receive)
        admitted = await admit(scope, request)
        if isinstance(admitted, HttpRefusal):
            await _refuse(admitted, request, send)
        else:
            await self._answer(admitted.scope, replayed(admitted.body, receive), send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        errors = _Errors(send)
        try:
            await self.application(scope, receive, errors.hold)
        except RecursionError:  # of Python's JSON parser
            errors.status, errors.body = HTTPStatus.BAD_REQUEST, b"the JSON is nested too deeply"
        finally:
            await errors.release()


class _Errors:
    """Held back until they are whole, and then sent in our form; other answers pass."""

    def __init__(self, send: Send) -> None:
        self.send, self.status, self.body = send, 200, b""

    async def hold(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        if self.status < HTTPStatus.BAD_REQUEST:
            await self.send(message)
        else:
            self.body += message.get("body", b"")

    async def release(self) -> None:
        if self.status >= HTTPStatus.BAD_REQUEST:
            body = as_error_body(self.status, self.body).encode()
            await self.send(_start(self.status, body))
            await self.send({"type": "http.response.body", "body": body})


async def _refuse(refusal: HttpRefusal, receive: Receive, send: Send) -> None:
    """Answers at once, and then lets the client finish."""
    body = error_body(refusal.status.name, refusal.line).encode()
    await send(_start(refusal.status, body))
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
