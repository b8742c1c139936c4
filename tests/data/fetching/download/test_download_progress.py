"""What the user sees of a download, and what nobody may see."""

import os
import sys
import termios
from pathlib import Path

import pytest

from pipeline.data.fetching.download import Patience
from pipeline.data.fetching.download.meter import state_line
from pipeline.errors import StudyError
from tests.data.fetching.download.fetching import CONTENT, SIZE, fetch
from tests.data.fetching.file_server import Answer, FileServer, gives, hangs_up, redirects, says


@pytest.mark.parametrize("answer", [gives(CONTENT), says(404), says(503), hangs_up, gives(CONTENT, cut_after=30_000)])
def test_a_token_in_the_address_is_told_to_nobody(
    server: FileServer, cache: Path, caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    server.answers = [redirects("/there?X-Amz-Signature=t0ken"), answer]
    told = ""
    try:
        fetch(server.url("set.zip?X-Amz-Signature=t0ken#t0ken"))
    except StudyError as error:
        told = str(error)
    assert "t0ken" in server.asked[0].path
    assert "t0ken" not in told + caplog.text
    assert "t0ken" not in str(list(cache.rglob("*")))
    assert not [path for path in cache.rglob("*") if path.is_file() and b"t0ken" in path.read_bytes()]


def test_progress_starts_from_what_is_there_and_ends_at_the_size(server: FileServer) -> None:
    server.answers = [gives(CONTENT, cut_after=20_000), gives(CONTENT)]
    seen: list[tuple[int, int]] = []
    fetch(server, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, SIZE)
    assert seen.count((20_000, SIZE)) == 2
    assert seen[-1] == (SIZE, SIZE)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_without_a_terminal_lines_tell_how_far_it_is(server: FileServer, caplog: pytest.LogCaptureFixture) -> None:
    fetch(server, patience=Patience(log_every_s=0.0))
    assert "datasets.busi: 100 % of 60.1kB" in caplog.text


def test_a_line_says_share_rate_and_time_left() -> None:
    assert state_line(50_000_000, 200_000_000, 5e6) == "25 % of 200MB, 5.00MB/s, 00:30 left"
    assert state_line(50_000_000, 0, 5e6) == "50.0MB, 5.00MB/s"
    assert state_line(0, 200_000_000, 0.0) == "0 % of 200MB, 0.00B/s, stalled"


def test_a_terminal_shows_a_bar(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 80))
    with open(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        server.answers = [gives(CONTENT, cut_after=20_000), gives(CONTENT)]
        fetch(server)
    shown = os.read(leader, 1 << 16).decode()
    assert "datasets.busi" in shown
    assert "60.1k/60.1k" in shown
