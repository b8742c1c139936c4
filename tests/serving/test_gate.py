"""The middleware before MLflow's server, driven message by message as a web server drives it."""

import asyncio
import json

import pytest

from pipeline.serving import admission
from pipeline.serving.gate import Gate

JSON_TYPE = [(b"content-type", b"application/json")]


@pytest.fixture(autouse=True)
def ten_bytes(monkeypatch):
    monkeypatch.setattr(admission, "MAX_BODY_BYTES", 10)


def answered(parts, headers=JSON_TYPE, application=None, path="/invocations"):
    """The status, headers and body that a client gets, and what of its request was left unread."""
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    left.append({"type": "http.request"})
    sent = []

    async def receive():
        return left.pop(0)

    async def send(message):
        sent.append((message, len(left)))

    scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
    asyncio.run(Gate(application or echo, {"X-Model-Version": "m/1"})(scope, receive, send))
    start, unread = sent[0]
    body = b"".join(message.get("body", b"") for message, _ in sent[1:])
    assert not sent[-1][0].get("more_body")
    return start["status"], dict(start["headers"]), body, unread


async def echo(scope, receive, send):
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def failing(scope, receive, send):
    await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"9999")]})
    await send({"type": "http.response.body", "body": b"it ", "more_body": True})
    await send({"type": "http.response.body", "body": b"broke\nTraceback"})


async def echo_content_type(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": dict(scope["headers"])[b"content-type"]})


async def recursing(scope, receive, send):
    """As a web framework does that answers a fault of its own, and then lets the server know."""
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body", "body": b"Internal Server Error"})
    raise RecursionError


def test_a_body_within_the_limit_arrives_whole():
    status, headers, body, _ = answered([b"01234", b"56789"])
    assert (status, body) == (200, b"0123456789")
    assert headers[b"x-model-version"] == b"m/1"


def test_a_length_over_the_limit_is_refused_before_anything_is_read():
    status, headers, body, unread = answered([b"0"], [*JSON_TYPE, (b"content-length", b"11")])
    assert (status, unread) == (413, 2)
    assert json.loads(body).keys() == {"error_code", "message"}
    assert headers[b"x-model-version"] == b"m/1"


def test_a_body_without_a_length_is_counted():
    status, _, _, unread = answered([b"01234", b"567890", b"x", b"y"])
    assert (status, unread) == (413, 3)


def test_a_body_that_is_too_large_only_at_its_end_is_refused_without_waiting_for_more():
    left = [{"type": "http.request", "body": b"01234567890"}]
    sent = []

    async def receive():
        return left.pop()  # a client that has sent all sends no more, and a web server would wait

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/invocations", "headers": JSON_TYPE}
    asyncio.run(Gate(echo, {})(scope, receive, send))
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("kind", ["text/plain", "text/csv", ""])
def test_another_content_type_is_refused(kind):
    assert answered([b"1"], [(b"content-type", kind.encode())])[0] == 415
    assert answered([b"1"], [(b"content-type", kind.encode())], path="/elsewhere")[0] == 200


@pytest.mark.parametrize("kind", ["Application/JSON", "APPLICATION/JSON; Charset=UTF-8"])
def test_a_content_type_is_the_same_in_any_case_and_arrives_as_mlflow_compares_it(kind):
    _, _, body, _ = answered([b"1"], [(b"content-type", kind.encode())], application=echo_content_type)
    assert body == kind.lower().encode()


def test_json_nested_too_deeply_is_a_wrong_request():
    status, _, body, _ = answered([b"1"], application=recursing)
    assert (status, json.loads(body)) == (
        400, {"error_code": "BAD_REQUEST", "message": "the JSON is nested too deeply"}
    )  # fmt: skip


def test_an_error_becomes_one_line_of_json_with_its_own_length():
    status, headers, body, _ = answered([b"1"], application=failing)
    assert status == 500
    assert json.loads(body) == {"error_code": "INTERNAL_SERVER_ERROR", "message": "it broke"}
    assert int(headers[b"content-length"]) == len(body)
