"""The cache that projects share: trust on first use, damage, processes side by side."""

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.data.fetching.download.cache import Origin, entry_of
from tests.data.fetching.download.fetching import CONTENT, OTHER, OTHER_SHA256, SHA256, SIZE, fetch, kept, refused
from tests.data.fetching.file_server import FileServer, gives, serving
from tests.data.sets import write

pytestmark = pytest.mark.slow


def test_the_first_download_names_the_lines_that_pin_it(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    fetch(server)
    assert f"put these lines under datasets.busi:\n    sha256: {SHA256}\n    size_bytes: {SIZE}" in caplog.text
    caplog.clear()
    fetch(server, SHA256)
    assert "put these lines" not in caplog.text


def test_an_address_must_give_the_first_file_ever_after(server: FileServer, cache: Path) -> None:
    fetch(server).path.unlink()
    server.answers = [gives(OTHER)]
    message = refused(server, f"another file than the first time: sha256 {OTHER_SHA256} .* not {SHA256}")
    assert "put the new sha256 under datasets.busi, or delete" in message
    assert kept(cache) == {"set.zip.json"}


def test_a_new_hash_in_the_params_replaces_the_file(server: FileServer) -> None:
    fetch(server)
    server.answers = [gives(OTHER)]
    assert fetch(server, OTHER_SHA256).path.read_bytes() == OTHER
    assert fetch(server).sha256 == OTHER_SHA256


def test_a_wrong_hash_or_size_in_the_params_leaves_the_file(server: FileServer) -> None:
    fetch(server)
    refused(server, "correct the key", "0" * 64)
    refused(server, "correct the key", None, 5)
    assert fetch(server).path.read_bytes() == CONTENT


@pytest.mark.parametrize("damage", [b"", CONTENT[:-1], CONTENT[:-1] + b"!"])
def test_a_damaged_file_of_the_cache_comes_anew(
    server: FileServer, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    write(fetch(server).path, damage)
    assert fetch(server).path.read_bytes() == CONTENT
    assert caplog.text.count("is damaged or not the file asked for") == 1


def test_a_spoilt_record_is_made_again(server: FileServer) -> None:
    found = fetch(server)
    record = write(found.path.with_name("set.zip.json"), b"{")
    assert fetch(server) == found
    assert json.loads(record.read_text())["sha256"] == SHA256


def leave_unverified(server: FileServer, content: bytes) -> None:
    """As a process does that is killed right after the last byte."""
    partial = entry_of(server.url()).partial
    write(partial.path, content)
    write(partial.origin_path, Origin(etag='"1"', total=len(content)).model_dump_json().encode())


def test_a_download_that_ended_before_it_was_verified_is_not_repeated(server: FileServer) -> None:
    leave_unverified(server, CONTENT)
    assert fetch(server).path.read_bytes() == CONTENT
    assert server.asked == []


def test_what_was_never_verified_may_be_wrong_and_comes_anew(server: FileServer) -> None:
    leave_unverified(server, OTHER)
    assert fetch(server, SHA256).path.read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_refused(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_CACHE", str(write(tmp_path / "file", b"") / "cache"))
    refused(server, "file/cache cannot be used: Not a directory; set DATASET_CACHE")


def test_a_full_disk_is_told(server: FileServer) -> None:
    partial = entry_of(server.url()).partial.path
    partial.parent.mkdir(parents=True)
    partial.symlink_to("/dev/full")
    refused(server, "No space left on device; free some space, or set DATASET_CACHE")


def test_a_file_larger_than_the_disk_is_not_begun(server: FileServer) -> None:
    server.answers = [gives(CONTENT, announced=1 << 60)]
    refused(server, "but only .* are free")


def test_projects_that_want_one_file_at_once_download_it_once(server: FileServer) -> None:
    server.answers = [gives(CONTENT, slow_s=0.02)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fetch, [server] * 4))
    assert len(set(found)) == 1
    assert len(server.asked) == 1


SCRIPT = """
import sys
from pipeline.data.fetching.download import download
download(sys.argv[1], sys.argv[2], None, "datasets.busi", lambda done, total: print(done, flush=True))
"""


def another_process(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, url, SHA256], stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_what_it_had_and_no_lock() -> None:
    with serving(gives(CONTENT, stall_after=20_000)) as server:
        process = another_process(server.url())
        while process.stdout.readline() != "20000\n":
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.answers = [gives(CONTENT)]
        assert fetch(server, SHA256).path.read_bytes() == CONTENT
        assert server.ranges == [None, "bytes=20000-"]


def test_processes_wait_for_each_other() -> None:
    with serving(gives(CONTENT, slow_s=0.1)) as server:
        processes = [another_process(server.url()) for _ in range(2)]
        assert [process.wait() for process in processes] == [0, 0]
        assert len(server.asked) == 1
