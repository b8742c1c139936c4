"""What is no download: another file, a web page, a way that leads nowhere good."""

from pathlib import Path

import pytest

from pipeline.errors import StudyError
from tests.data.fetching.download.fetching import CONTENT, SHA256, SIZE, fetch, kept, refused
from tests.data.fetching.file_server import Answer, FileServer, gives, redirects, says, serving

pytestmark = pytest.mark.slow


def test_another_file_is_refused_and_not_kept(server: FileServer, cache: Path) -> None:
    message = refused(server, rf"datasets\.busi\.sha256: .*{SHA256} \({SIZE:,} bytes\), not {'0' * 64}", "0" * 64)
    assert "correct the key" in message
    assert kept(cache) == set()


def test_another_announced_size_is_refused_before_the_file_comes(server: FileServer, cache: Path) -> None:
    server.answers = [gives(CONTENT, stall_after=1)]
    refused(server, rf"datasets\.busi\.size_bytes: .* has {SIZE:,} bytes, not 5;", SHA256, 5)
    assert kept(cache) == set()


def test_more_bytes_than_there_should_be_are_not_read(server: FileServer, cache: Path) -> None:
    server.answers = [gives(CONTENT, chunked=True)]
    refused(server, "more than the 5,000 bytes", None, 5_000)
    assert kept(cache) == set()


def test_fewer_bytes_than_there_should_be_are_refused(server: FileServer) -> None:
    server.answers = [gives(CONTENT, chunked=True)]
    refused(server, rf"has {SIZE:,} bytes, not {SIZE + 1:,}", None, SIZE + 1)


PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"


@pytest.mark.parametrize(
    "answer",
    [gives(PAGE, kind="text/html; charset=utf-8"), gives(b"\xef\xbb\xbf \n" + PAGE), gives(CONTENT, kind="Text/HTML")],
)
@pytest.mark.parametrize("digest", [None, SHA256], ids=["unpinned", "pinned"])
def test_a_web_page_is_no_archive(server: FileServer, cache: Path, answer: Answer, digest: str | None) -> None:
    server.answers = [answer]
    refused(server, "is a web page, not an archive", digest)
    assert kept(cache) == set()


@pytest.mark.parametrize("content", [b'{"error": "quota"}', CONTENT[:-30], b""])
def test_without_a_hash_it_must_at_least_be_an_archive(server: FileServer, cache: Path, content: bytes) -> None:
    server.answers = [gives(content)]
    refused(server, "gives no archive: ")
    assert kept(cache) == set()


@pytest.mark.parametrize("status", [401, 403, 404, 410, 400, 204])
def test_a_refusal_is_not_tried_again(server: FileServer, status: int) -> None:
    server.answers = [says(status)]
    with pytest.raises(StudyError, match=rf"answers {status} .*give the file's path; the set is at X"):
        fetch(server, hint="the set is at X")
    assert len(server.asked) == 1


def test_redirects_are_followed(server: FileServer) -> None:
    server.answers = [redirects("/there"), redirects(server.url("elsewhere")), gives(CONTENT)]
    assert fetch(server).path.name == "set.zip"
    assert [asked.path for asked in server.asked] == ["/set.zip", "/there", "/elsewhere"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/set.zip", "redirects more than 10 times"),
        ("http://127.0.0.1/set.zip", r"redirects to plain http \(127\.0\.0\.1\).*give datasets\.busi\.sha256"),
        ("ftp://127.0.0.1/set.zip", "redirects to ftp"),
    ],
)
def test_redirects_that_lead_nowhere_good_are_refused(server: FileServer, target: str, message: str) -> None:
    server.answers = [redirects(target)]
    refused(server, message)


def test_a_hash_vouches_for_what_plain_http_brings(server: FileServer) -> None:
    with serving(gives(CONTENT)) as plain:
        server.answers = [redirects(plain.url())]
        assert fetch(server, SHA256).path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/set.zip", r"is plain http.*give https, or datasets\.busi\.sha256"),
        ("https://ann:secret@example.org/set.zip", r"holds a user name or a password; put them into ~/\.netrc"),
        ("ftp://example.org/set.zip", "ftp is not supported"),
        ("s3://bucket/set.zip", "s3 is not supported"),
        ("https:///set.zip", "not a web address"),
        ("https://example.org:port/set.zip", "not a web address"),
        ("https://[::1/set.zip#part", "not a web address"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, message: str) -> None:
    assert "secret" not in refused(url, message)


def test_an_unknown_certificate_is_refused(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    refused(server, r"the certificate of 127\.0\.0\.1 is not valid \(self-signed certificate\).*REQUESTS_CA_BUNDLE")


def test_absent_certificates_are_refused(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    refused(server, r"absent\.pem; correct REQUESTS_CA_BUNDLE")
