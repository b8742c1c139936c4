"""Weights of a hub tag: the local cache first, then the hub; quickly refused when it is out of reach."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import save

from pipeline.errors import StudyError
from pipeline.models import hub as hub_module
from pipeline.models.build import build_classifier
from pipeline.models.hub import hub_file
from pipeline.models.weights import load_weights, pretrained_cfg
from pipeline.params import load_params
from tests.models.hub_server import COMMIT, PIECE_BYTES, black_hole, running_hub, silent_address
from tests.models.tiny import VIT, build

pytestmark = pytest.mark.slow

REPOSITORY, ARCH = "timm/vit_small_patch16_224.dino", "vit_small_patch16_224"
SAFETENSORS, PICKLE = f"{REPOSITORY}/model.safetensors", f"{REPOSITORY}/pytorch_model.bin"
PAPER = load_params(Path(__file__).parents[2] / "params" / "paper.yaml").models


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Empty, and nobody answers."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")  # nobody listens on the discard port
    return tmp_path / "cache"


@pytest.fixture
def little_patience(monkeypatch):
    """Though longer than the second that the client rests after a cut."""
    monkeypatch.setattr(hub_module, "TRY_S", 0.5)
    monkeypatch.setattr(hub_module, "GIVE_UP_S", 2.0)


def use_endpoint(monkeypatch, endpoint):
    """As HF_ENDPOINT does when the process starts."""
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def hub(monkeypatch):
    """It holds DINO's weights, as safetensors only."""
    with running_hub() as hub:
        hub.files[SAFETENSORS] = save(build("dino", seed=7).backbone.state_dict())
        use_endpoint(monkeypatch, hub.address)
        yield hub


@pytest.fixture
def slow_hub(hub, monkeypatch):
    """It takes longer for the whole file than anybody waits for a sign of life."""
    monkeypatch.setattr(hub_module, "GIVE_UP_S", 2.0)
    hub.files[SAFETENSORS] = os.urandom(12 * PIECE_BYTES)
    hub.rest_s = 0.25
    return hub


def asked_of_store(hub):
    """The range of each try."""
    return [wanted for path, wanted, _ in hub.asked if path.startswith("/store/")]


@contextmanager
def in_another_process(hub, cache, try_s):
    """It fetches the file, prints where it is, and has little patience with what stalls."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"  # which a background job ignores
        f"from pipeline.models import hub; hub.TRY_S, hub.GIVE_UP_S = {try_s}, 2.0;"
        f"print(hub.hub_file({REPOSITORY!r}, {ARCH!r}))"
    )
    settings = {"HF_ENDPOINT": hub.address, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0"}
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, env=os.environ | settings, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_download(cache, process):
    """Until it has begun."""
    while process.poll() is None and not any(cache.rglob("*.incomplete")):
        time.sleep(0.05)


def put_in_cache(cache, content):
    repository = cache / "models--timm--vit_small_patch16_224.dino"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (snapshot / "model.safetensors").write_bytes(content)


def test_the_cache_comes_first(cache):
    put_in_cache(cache, b"weights")
    assert hub_file(REPOSITORY, ARCH).read_bytes() == b"weights"


@pytest.mark.parametrize("model", PAPER)
def test_a_tag_of_the_paper_is_fetched_from_its_repository(model, monkeypatch):
    params = PAPER[model]
    repository = pretrained_cfg(params.arch, params.weights).hf_hub_id
    assert repository == f"timm/{params.arch}.{params.weights}"
    with running_hub() as hub:
        hub.files[f"{repository}/model.safetensors"] = model.encode()
        use_endpoint(monkeypatch, hub.address)
        assert hub_file(repository, params.arch).read_bytes() == model.encode()


def test_a_tag_goes_from_the_hub_through_the_cache_into_the_model(hub, monkeypatch):
    state = build("dino", seed=7).backbone.state_dict()
    fetched = build_classifier(ARCH, VIT, "dino", 3, 32, 0).backbone.state_dict()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached = build_classifier(ARCH, VIT, "dino", 3, 32, 0).backbone.state_dict()
    for loaded in (fetched, cached):
        assert torch.equal(loaded["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])


def test_nobody_asks_for_the_pickle_where_there_are_safetensors(hub):
    hub.files[PICKLE] = b"a pickle"
    assert hub_file(REPOSITORY, ARCH).name == "model.safetensors"
    assert not any("pytorch_model" in path for path, _, _ in hub.asked)


def test_the_pickle_is_fetched_where_there_is_nothing_else(hub):
    hub.files = {PICKLE: b"a pickle"}
    assert hub_file(REPOSITORY, ARCH).read_bytes() == b"a pickle"


def test_a_repository_without_weights_is_refused(hub):
    with pytest.raises(StudyError, match=r"holds none of model\.safetensors, pytorch_model\.bin"):
        hub_file("timm/empty", "empty")


def test_a_download_that_is_cut_goes_on_where_it_was(hub):
    hub.files[SAFETENSORS] = content = os.urandom(1 << 18)
    hub.cut_after = 1 << 17
    assert hub_file(REPOSITORY, ARCH).read_bytes() == content
    assert asked_of_store(hub) == ["", f"bytes={1 << 17}-"]


def test_a_download_that_stalls_once_goes_on_where_it_was(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "TRY_S", 1)
    hub.files[SAFETENSORS] = content = os.urandom(1 << 18)
    hub.stalls_at, hub.stalls_once = 1 << 17, True
    assert hub_file(REPOSITORY, ARCH).read_bytes() == content
    assert asked_of_store(hub) == ["", f"bytes={1 << 17}-"]


def test_without_ranges_a_cut_download_begins_anew_and_the_same_cut_ends_it(hub, little_patience):
    hub.files[SAFETENSORS] = os.urandom(4 * PIECE_BYTES)
    hub.cut_after, hub.knows_ranges, hub.rest_s = 2 * PIECE_BYTES, False, 0.3
    healed = threading.Timer(20, setattr, (hub, "cut_after", None))  # else whoever counts what is old goes on for ever
    healed.start()
    with pytest.raises(StudyError, match=r"was not fetched: .*nothing new came for 2 s"):
        hub_file(REPOSITORY, ARCH)
    healed.cancel()
    assert len(asked_of_store(hub)) > 1


def test_a_slow_line_is_not_given_up(slow_hub):
    assert hub_file(REPOSITORY, ARCH).read_bytes() == slow_hub.files[SAFETENSORS]


def test_two_stages_that_want_one_file_fetch_it_once(hub):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: hub_file(REPOSITORY, ARCH), range(2))
    assert first == second
    assert asked_of_store(hub) == [""]


@pytest.mark.slow
def test_a_stage_waits_for_a_slow_download_of_another(slow_hub, cache):
    with in_another_process(slow_hub, cache, try_s=4) as other:
        wait_for_download(cache, other)
        ours = hub_file(REPOSITORY, ARCH)
        assert other.communicate(timeout=60)[0].strip() == str(ours)
    assert asked_of_store(slow_hub) == [""]


def test_the_users_token_is_for_the_hub_only(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    hub_file(REPOSITORY, ARCH)
    asked = {(path.startswith("/store/"), token) for path, _, token in hub.asked}
    assert asked == {(False, "Bearer hf_of_the_user"), (True, None)}


@pytest.mark.parametrize("sent", [0, 100_000])
def test_a_download_that_stalls_is_given_up(sent, hub, little_patience):
    hub.files[SAFETENSORS] = bytes(300_000)
    hub.stalls_at = sent
    with pytest.raises(StudyError, match=r"was not fetched: .*nothing new came for 2 s"):
        hub_file(REPOSITORY, ARCH)
    assert try_to_load_from_cache(REPOSITORY, "model.safetensors") is None


@pytest.mark.slow
def test_however_late_a_hub_goes_dead_it_is_given_up_within_ten_seconds(hub):
    """After each of two answers that come just in time, and before the first byte of the file."""
    hub.thinks_s, hub.stalls_at = 3.5, 0
    begun = time.monotonic()
    with pytest.raises(StudyError, match=r"was not fetched: .*nothing new came for 8\.5 s"):
        hub_file(REPOSITORY, ARCH)
    assert time.monotonic() - begun < 10
    assert len(asked_of_store(hub)) == 1


@pytest.mark.slow
def test_a_stalled_download_neither_holds_up_the_end_of_the_process_nor_outlasts_it(hub, cache):
    hub.stalls_at = 0
    with in_another_process(hub, cache, try_s=300) as process:  # so long would the client wait
        assert "nothing new came for 2 s" in process.communicate(timeout=60)[1]
    assert asked_of_store(hub) == [""]
    assert not list(cache.rglob("*.incomplete"))


@pytest.mark.slow
def test_an_interrupted_download_leaves_nothing_half_written(slow_hub, cache):
    with in_another_process(slow_hub, cache, try_s=4) as process:
        wait_for_download(cache, process)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not list(cache.rglob("*.incomplete"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "answers 500 Internal Server Error"),
        (503, "answers 503 Service Unavailable"),
        (429, "answers 429 Too Many Requests"),
        (404, "answers 404 Not Found"),
        (401, rf"answers 401: .*https://huggingface\.co/{REPOSITORY} and set HF_TOKEN"),
        (403, rf"answers 403: .*https://huggingface\.co/{REPOSITORY} and set HF_TOKEN"),
    ],
)
def test_a_refusal_is_told_at_once(status, message, hub):
    hub.status = status
    with pytest.raises(StudyError, match=message):
        hub_file(REPOSITORY, ARCH)
    assert len(hub.asked) == 1


def test_what_is_no_hub_is_told_apart(hub, monkeypatch):
    hub.files["timm/x/model.safetensors"] = b"<html>please log in</html>"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", f"{hub.address}/store/timm/x/model.safetensors")
    with pytest.raises(StudyError, match=r"was not fetched: .*does not seem to be served by .* HF_ENDPOINT"):
        hub_file(REPOSITORY, ARCH)


def test_out_of_reach_says_how_to_give_a_file():
    remedy = r"Connection refused; .*path of a local file .*vit_small_patch16_224\.dino"
    with pytest.raises(StudyError, match=remedy):
        hub_file(REPOSITORY, ARCH)


@pytest.mark.parametrize("dead", [silent_address, black_hole])
def test_a_hub_that_does_not_answer_is_given_up(dead, little_patience, monkeypatch):
    with dead() as address:
        use_endpoint(monkeypatch, address)
        with pytest.raises(StudyError, match=rf"was not fetched: {address}: timed out"):
            hub_file(REPOSITORY, ARCH)


def test_a_name_that_does_not_resolve_is_given_up(little_patience, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60))  # a resolver that never answers
    use_endpoint(monkeypatch, "http://hub.invalid")
    with pytest.raises(StudyError, match=r"was not fetched: http://hub\.invalid: nothing new came for 2 s"):
        hub_file(REPOSITORY, ARCH)
    over.set()


def test_offline_is_honoured(monkeypatch, hub):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudyError, match="HF_HUB_OFFLINE is set"):
        hub_file(REPOSITORY, ARCH)
    assert not hub.asked


def test_a_damaged_file_in_the_cache_is_named(cache):
    put_in_cache(cache, b"weights")
    with pytest.raises(StudyError, match=rf"{COMMIT}/model\.safetensors: damaged"):
        load_weights(build("dino").backbone, ARCH, "dino")


def test_a_cache_that_cannot_be_written_is_told(hub, cache):
    cache.write_text("no folder")
    with pytest.raises(StudyError, match=r"was not fetched: .*(Not a directory|File exists)"):
        hub_file(REPOSITORY, ARCH)
