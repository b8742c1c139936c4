"""A promotion reaches a receiver, signed: the lines of docs/mlflow.md, run against a real server."""

import json
import os
import queue
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

import pytest
from cryptography.fernet import Fernet

from pipeline.tracking import MlflowClient
from tests.services.page import run_documented
from tests.services.servers import HOST, mlflow_server_of_make_ui, started

pytestmark = pytest.mark.slow

NAME, SECRET = "busi-classifier", "a shared secret"
DELIVERY_TIMEOUT_S = 60

SETTINGS = {
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY": Fernet.generate_key().decode(),
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "http,https",
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
}


@contextmanager
def receiver():
    """An address, and the queue of the (headers, body) that are posted to it."""
    received: queue.Queue = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            received.put((self.headers, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/promotions", received
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def delivery(tmp_path_factory):
    """The headers and the body of the call that setting an alias makes."""
    folder = tmp_path_factory.mktemp("webhooks")
    settings = {**SETTINGS, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    with (
        receiver() as (url, received),
        mock.patch.dict(os.environ, settings),
        started(mlflow_server_of_make_ui(), folder) as address,
    ):
        os.environ |= {"MLFLOW_TRACKING_URI": address, "WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET}
        run_documented("create_webhook")
        client = MlflowClient(address)
        client.create_registered_model(NAME)
        client.create_model_version(NAME, "s3://elsewhere/model")
        client.set_registered_model_alias(NAME, "champion", "1")
        yield received.get(timeout=DELIVERY_TIMEOUT_S)


def test_an_alias_is_told_with_its_version(delivery):
    message = json.loads(delivery[1])
    assert (message["entity"], message["action"]) == ("model_version_alias", "created")
    assert message["data"] == {"name": NAME, "alias": "champion", "version": "1"}


def test_the_signature_is_verified_as_the_page_says(delivery):
    is_authentic = run_documented("def is_authentic")["is_authentic"]
    headers, body = delivery
    assert is_authentic(SECRET, headers, body)
    assert not is_authentic("another secret", headers, body)
    assert not is_authentic(SECRET, headers, body.replace(b"champion", b"impostor"))
    assert not is_authentic(SECRET, headers, body, max_age_s=-1)
    assert not is_authentic(SECRET, {}, body)
