"""Weights of a hub tag: the local cache first, then the hub; quickly refused when it is out of reach."""

import hashlib
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from pipeline.errors import StudyError
from pipeline.models.build import build_classifier
from pipeline.models.hub import hub_file
from tests.models.tiny import VIT, build

REPOSITORY, ARCH = "timm/vit_small_patch16_224.dino", "vit_small_patch16_224"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")  # nobody listens on the discard port
    return tmp_path / "cache"


def use_endpoint(monkeypatch, endpoint):
    """As HF_ENDPOINT does when the process starts."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def put_in_cache(cache, content):
    repository = cache / "models--timm--vit_small_patch16_224.dino"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "model.safetensors").write_bytes(content)


class Hub(BaseHTTPRequestHandler):
    """What the hub's client asks of a server for one file of one repository."""

    content = b""

    def do_HEAD(self):
        known = self.path in ("/", f"/{REPOSITORY}/resolve/main/model.safetensors")
        self.send_response(200 if known else 404)
        if not known:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", hashlib.sha256(self.content).hexdigest())
        self.send_header("Content-Length", str(len(self.content) if known else 0))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    monkeypatch.setattr(Hub, "content", save(build("dino", seed=7).backbone.state_dict()))
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_cache_comes_first(cache):
    put_in_cache(cache, b"weights")
    assert hub_file(REPOSITORY, ARCH).read_bytes() == b"weights"


def test_a_file_is_fetched_and_then_lies_in_the_cache(hub, monkeypatch):
    assert hub_file(REPOSITORY, ARCH).read_bytes() == hub.RequestHandlerClass.content
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_file(REPOSITORY, ARCH).read_bytes() == hub.RequestHandlerClass.content


def test_a_cached_tag_fills_the_model(cache):
    state = build("dino", seed=7).backbone.state_dict()
    put_in_cache(cache, save(state))
    loaded = build_classifier(ARCH, VIT, "dino", 3, 32, 0).backbone.state_dict()
    assert torch.equal(loaded["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])


def test_out_of_reach_says_how_to_give_a_file():
    with pytest.raises(StudyError, match=r"cannot be reached .*path of a local file .*vit_small_patch16_224\.dino"):
        hub_file(REPOSITORY, ARCH)


def test_a_silent_hub_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        monkeypatch.setattr("pipeline.models.hub.PROBE_S", 0.2)
        use_endpoint(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StudyError, match=r"cannot be reached .*timed out"):
            hub_file(REPOSITORY, ARCH)


def test_offline_is_honoured(monkeypatch, hub):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match="HF_HUB_OFFLINE is set"):
        hub_file(REPOSITORY, ARCH)


def test_a_repository_without_weights_is_refused(hub):
    with pytest.raises(StudyError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        hub_file("timm/empty", "empty")
