"""Downloads from a real server that cuts, stalls and changes its mind."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.fetching.download import Patience
from pipeline.data.fetching.download.patience import Tries
from pipeline.errors import StudyError
from tests.data.fetching.download.fetching import (
    CONTENT,
    OTHER,
    OTHER_SHA256,
    QUICK,
    SHA256,
    SIZE,
    fetch,
    kept,
    refused,
)
from tests.data.fetching.file_server import PROXIED_HOST, Answer, FileServer, gives, hangs_up, says, serving
from tests.data.fetching.test_unpack import zipped
from tests.data.sets import write

pytestmark = pytest.mark.slow


def test_a_file_comes_whole_and_with_a_record(server: FileServer, cache: Path) -> None:
    found = fetch(server, SHA256, SIZE)
    assert (found.path.read_bytes(), found.sha256, found.size_bytes) == (CONTENT, SHA256, SIZE)
    assert found.path.is_relative_to(cache)
    assert kept(cache) == {"set.zip", "set.zip.json"}
    record = json.loads(found.path.with_name("set.zip.json").read_text())
    assert record == {"url": server.url(), "sha256": SHA256, "size_bytes": SIZE, "etag": '"1"'}


def test_a_file_of_the_cache_is_not_asked_for_again(server: FileServer) -> None:
    assert fetch(server) == fetch(server, SHA256, SIZE) == fetch(server.url() + "#part")
    assert len(server.asked) == 1


def test_addresses_that_differ_in_their_query_are_different_files(server: FileServer) -> None:
    server.answers = [gives(CONTENT), gives(OTHER)]
    first, second = (fetch(server.url(f"get?id={number}")) for number in (1, 2))
    assert (first.sha256, second.sha256) == (SHA256, OTHER_SHA256)
    assert first.path.name == "get"


@pytest.mark.parametrize("answer", [gives(CONTENT, chunked=True), gives(CONTENT, length=False)])
def test_a_server_need_not_know_the_length(server: FileServer, answer: Answer) -> None:
    server.answers = [answer]
    seen: list[tuple[int, int]] = []
    fetch(server, progress=lambda done, total: seen.append((done, total)))
    assert (0, 0) in seen
    assert seen[-1] == (SIZE, SIZE)


def test_plain_http_will_do_where_a_hash_vouches() -> None:
    with serving(gives(CONTENT)) as server:
        assert fetch(server, SHA256).path.read_bytes() == CONTENT


def test_the_server_learns_who_asks_and_that_the_file_is_wanted_as_it_is(server: FileServer) -> None:
    fetch(server)
    assert server.asked[0].headers["Accept-Encoding"] == "identity"
    assert server.asked[0].headers["User-Agent"] == "Mozilla/5.0 (compatible; vit-explainability-study)"


def test_a_login_comes_from_netrc(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(write(tmp_path / "netrc", b"machine 127.0.0.1 login ann password secret\n")))
    fetch(server)
    assert server.asked[0].headers["Authorization"].startswith("Basic ")


def test_a_proxy_is_used(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(target=server.server_address) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url(""))
        assert fetch(f"https://{PROXIED_HOST}/set.zip").sha256 == SHA256
    assert [(asked.method, asked.path) for asked in proxy.asked] == [("CONNECT", f"{PROXIED_HOST}:443")]


def test_a_cut_download_goes_on_where_it_was_cut(server: FileServer) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=20000-"]
    assert server.asked[1].headers["If-Range"] == '"1"'


def test_any_number_of_cuts_is_borne_while_bytes_come(server: FileServer) -> None:
    server.answers = [gives(CONTENT, cut_after=5_000)]
    assert fetch(server, patience=QUICK).path.read_bytes() == CONTENT
    assert len(server.asked) == -(-SIZE // 5_000) > QUICK.tries


@pytest.mark.parametrize("first", [gives(CONTENT, chunked=True, cut_after=20_000), hangs_up])
def test_what_is_cut_is_asked_for_again(server: FileServer, first: Answer) -> None:
    server.answers = [first, gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server: FileServer, status: int) -> None:
    server.answers = [says(status), gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT


def test_a_silent_connection_is_given_up_and_the_rest_asked_for(server: FileServer) -> None:
    server.answers = [gives(CONTENT, stall_after=20_000), gives(CONTENT)]
    assert fetch(server, patience=replace(QUICK, read_s=0.3)).path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=20000-"]


def test_an_unmarked_end_is_a_cut_if_the_size_is_known(server: FileServer) -> None:
    server.answers = [gives(CONTENT, length=False, cut_after=20_000), gives(CONTENT)]
    assert fetch(server, size_bytes=SIZE).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        ("1", "0.05 s"),
        ("0", "0 s"),
        ("Wed, 01 Jan 2020 00:00:00 GMT", "0 s"),
        ("Fri, 01 Jan 2100 00:00:00 GMT", "0.05 s"),
    ],
)
def test_the_server_says_when_to_ask_again_up_to_a_limit(
    server: FileServer, caplog: pytest.LogCaptureFixture, asked: str, wait: str
) -> None:
    server.answers = [says(503, Retry_After=asked), gives(CONTENT)]
    fetch(server)
    assert f"the server answers 503 Service Unavailable; next try in {wait}" in caplog.text


@pytest.mark.parametrize("asked", ["soon", "Mon, 01 Jan 99999 00:00:00 GMT", "9" * 400, "9" * 5000])
def test_a_nonsensical_retry_after_is_overlooked(server: FileServer, asked: str) -> None:
    server.answers = [says(429, Retry_After=asked), gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT


def test_pauses_grow_and_are_not_in_step() -> None:
    tries = Tries(Patience(first_wait_s=1.0, longest_wait_s=10.0), 0)
    for longest in (1, 2, 4, 8, 10):
        tries.note(0)
        waits = {tries.wait_s(None) for _ in range(20)}
        assert len(waits) > 1 or longest == 10
        assert all(longest / 2 <= wait <= longest for wait in waits)


def test_it_gives_up_when_nothing_new_comes_and_keeps_what_came(server: FileServer, cache: Path) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), hangs_up]
    message = refused(
        server, r"does not come: 127\.0\.0\.1: .*; tries in a row that brought nothing new: 3; run it again"
    )
    assert "the 20,000 bytes that are here" in message
    server.answers = [gives(CONTENT)]
    fetch(server)
    assert server.ranges == [None] + ["bytes=20000-"] * 4
    assert kept(cache) == {"set.zip", "set.zip.json"}


def test_a_server_that_always_starts_anew_brings_nothing_new(server: FileServer) -> None:
    server.answers = [gives(CONTENT, ranges=False, cut_after=20_000)]
    refused(server, "the connection was cut; tries in a row that brought nothing new: 3;")
    assert len(server.asked) == 4


def test_it_gives_up_when_nothing_came_for_too_long(server: FileServer) -> None:
    server.answers = [says(503)]
    with pytest.raises(StudyError, match="503 Service Unavailable; tries in a row that brought nothing new: 1;"):
        fetch(server, patience=Patience(first_wait_s=0.0, no_progress_s=0.0))


def test_a_host_out_of_reach_is_named() -> None:
    refused(
        "https://127.0.0.1:9/set.zip", "127.0.0.1: Connection refused; tries .*: 2; run it again, or"
    )  # nobody listens there


def test_a_proxy_that_says_no_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url(""))
        refused(f"https://{PROXIED_HOST}/set.zip", "the proxy cannot be used: .*407 Proxy Authentication Required")


def test_a_host_that_speaks_no_tls_is_named() -> None:
    with serving(gives(CONTENT)) as plain:
        refused(plain.url().replace("http:", "https:"), r"127\.0\.0\.1: .*SSL")


def test_a_server_that_ignores_ranges_starts_anew(server: FileServer) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), gives(CONTENT, ranges=False)]
    assert fetch(server).path.read_bytes() == CONTENT
    assert server.ranges[1] == "bytes=20000-"


@pytest.mark.parametrize("changed", [gives(OTHER, etag='"2"'), gives(OTHER, etag='"2"', chunked=True)])
def test_a_file_that_changed_in_between_comes_anew(server: FileServer, changed: Answer) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), changed]
    assert fetch(server).path.read_bytes() == OTHER


LONGER = zipped({"benign/a.png": random.Random(2).randbytes(70_000)})


@pytest.mark.parametrize(("file", "tag"), [(OTHER, {"ETag": '"2"'}), (LONGER, {})])
def test_a_part_of_another_file_is_noticed_even_if_the_server_does_not(
    server: FileServer, file: bytes, tag: dict[str, str]
) -> None:
    part = says(206, file[20_000:], Content_Range=f"bytes 20000-{len(file) - 1}/{len(file)}", **tag)
    server.answers = [gives(CONTENT, cut_after=20_000), part, gives(file, etag='"2"')]
    assert fetch(server).path.read_bytes() == file


@pytest.mark.parametrize(
    "part",
    [
        says(206, CONTENT[10:], Content_Range=f"bytes 10-{SIZE - 1}/{SIZE}"),
        says(206, CONTENT[20_000:]),
        says(206, CONTENT[20_000:], Content_Range=f"bytes 20000-{SIZE}/{SIZE + 1}"),
        says(206, CONTENT[20_000:], Content_Range=f"bytes 20000-{SIZE - 1}/{'9' * 5000}"),
        says(206, CONTENT[20_000:], Content_Range=f"bytes {'9' * 5000}-{SIZE - 1}/{SIZE}"),
        says(416),
    ],
)
def test_a_part_that_does_not_fit_is_not_put_in(server: FileServer, part: Answer) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), part, gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT


def test_a_weak_tag_does_not_prove_that_the_file_is_the_same(server: FileServer) -> None:
    server.answers = [gives(CONTENT, etag='W/"1"', cut_after=20_000), gives(CONTENT)]
    assert fetch(server).path.read_bytes() == CONTENT
    assert server.ranges == [None, None]


def test_a_date_proves_it_where_there_is_no_tag(server: FileServer) -> None:
    dated = {"etag": "", "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    server.answers = [gives(CONTENT, **dated, cut_after=20_000), gives(CONTENT, **dated)]
    fetch(server)
    assert server.asked[1].headers["If-Range"] == dated["modified"]
    assert server.ranges[1] == "bytes=20000-"


def test_a_given_hash_proves_it_too(server: FileServer) -> None:
    server.answers = [gives(CONTENT, etag="", cut_after=20_000), gives(CONTENT, etag="")]
    assert fetch(server, SHA256).path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=20000-"]


def test_parts_of_different_files_under_one_tag_are_found_out(
    server: FileServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers = [gives(OTHER, cut_after=20_000), gives(CONTENT)]
    assert fetch(server, SHA256).path.read_bytes() == CONTENT
    assert "the parts that several tries brought do not fit" in caplog.text
    assert server.ranges == [None, "bytes=20000-", None]


def test_a_length_that_is_too_long_is_a_cut(server: FileServer) -> None:
    server.answers = [gives(CONTENT, announced=SIZE + 100)]
    refused(server, "does not come")


def test_a_length_that_is_too_short_is_found_by_the_hash(server: FileServer, cache: Path) -> None:
    server.answers = [gives(CONTENT, announced=SIZE - 100)]
    refused(server, rf"sha256 [0-9a-f]{{64}} \({SIZE - 100:,} bytes\), not {SHA256}", SHA256)
    assert kept(cache) == set()
