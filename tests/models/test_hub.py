"""Weights of a hub tag: the local cache first, then the hub; quickly refused when it is out of reach."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors.torch import save

from pipeline.errors import StudyError
from pipeline.models import hub as hub_module
from pipeline.models.build import build_classifier
from pipeline.models.hub import BLOCK_BYTES, hub_file
from pipeline.models.weights import load_weights, pretrained_cfg
from pipeline.params import load_params
from tests.models.hub_server import COMMIT, black_hole, running_hub, silent_address
from tests.models.tiny import VIT, build

REPOSITORY, ARCH = "timm/vit_small_patch16_224.dino", "vit_small_patch16_224"
SAFETENSORS, PICKLE = f"{REPOSITORY}/model.safetensors", f"{REPOSITORY}/pytorch_model.bin"
PAPER = load_params(Path(__file__).parents[2] / "params" / "paper.yaml").models


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Empty, and nobody answers; patience is short."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "TRY_S", 0.3)
    monkeypatch.setattr(hub_module, "GIVE_UP_S", 0.8)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")  # nobody listens on the discard port
    return tmp_path / "cache"


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


def test_the_hubs_own_client_finds_what_was_fetched(hub, cache):
    assert try_to_load_from_cache(REPOSITORY, "model.safetensors", cache_dir=cache) is None
    fetched = hub_file(REPOSITORY, ARCH)
    assert try_to_load_from_cache(REPOSITORY, "model.safetensors", cache_dir=cache) == str(fetched)


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
    hub.files[SAFETENSORS] = content = bytes(range(256)) * 1024
    hub.cut_after = 2 * BLOCK_BYTES + 1
    assert hub_file(REPOSITORY, ARCH).read_bytes() == content
    asked = [wanted for path, wanted, _ in hub.asked if "store" in path]
    assert asked == ["", f"bytes={2 * BLOCK_BYTES}-"]  # whole blocks are kept


def test_without_ranges_a_cut_download_begins_anew_and_the_same_cut_ends_it(hub):
    hub.files[SAFETENSORS] = bytes(range(256)) * 1024
    hub.cut_after, hub.knows_ranges = 2 * BLOCK_BYTES + 1, False
    with pytest.raises(StudyError, match="was not fetched"):
        hub_file(REPOSITORY, ARCH)
    assert len([path for path, _, _ in hub.asked if "store" in path]) == 2


def test_two_stages_that_want_one_file_fetch_it_once(hub):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: hub_file(REPOSITORY, ARCH), range(2))
    assert first == second
    assert len([path for path, _, _ in hub.asked if "store" in path]) == 1


def test_the_users_token_is_for_the_hub_only(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_user")
    hub_file(REPOSITORY, ARCH)
    assert [token for _, _, token in hub.asked] == ["Bearer hf_of_the_user", None]  # the hub, its store


def whats_left(cache):
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("sent", [0, 100_000])
def test_a_download_that_stalls_is_given_up_and_leaves_nothing(sent, hub, cache):
    hub.files[SAFETENSORS] = bytes(300_000)
    hub.stalls_at = sent
    with pytest.raises(StudyError, match=r"was not fetched: .*(timed out|no answer)"):
        hub_file(REPOSITORY, ARCH)
    assert whats_left(cache) == ["fetch.lock"]


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
    with pytest.raises(StudyError, match="answers as no hub does"):
        hub_file(REPOSITORY, ARCH)


def test_out_of_reach_says_how_to_give_a_file():
    remedy = r"Connection refused; .*path of a local file .*vit_small_patch16_224\.dino"
    with pytest.raises(StudyError, match=remedy):
        hub_file(REPOSITORY, ARCH)


@pytest.mark.parametrize("dead", [silent_address, black_hole])
def test_a_hub_that_does_not_answer_is_given_up(dead, monkeypatch):
    with dead() as address:
        use_endpoint(monkeypatch, address)
        with pytest.raises(StudyError, match=rf"was not fetched: {address}: timed out"):
            hub_file(REPOSITORY, ARCH)


def test_a_name_that_does_not_resolve_is_given_up(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60))  # a resolver that never answers
    use_endpoint(monkeypatch, "http://hub.invalid")
    with pytest.raises(StudyError, match=r"was not fetched: http://hub\.invalid: no answer for 0\.8 s"):
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
