"""Asks a server for a file: what may be asked again, what is refused for good, and no token in any message."""

import logging
import re
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from pipeline.data.fetching.download.patience import Patience
from pipeline.data.fetching.download.wanted import BY_HAND, Wanted
from pipeline.errors import StudyError

HEADERS = {
    "User-Agent": "Mozilla/5.0 (compatible; vit-explainability-study)",  # Mendeley turns away what no browser sends
    "Accept-Encoding": "identity",  # lengths and ranges are those of the file
}
MAX_REDIRECTS = 10
WORTH_ANOTHER_TRY = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
REMEDIES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: f"put a login for this host into ~/.netrc, or {BY_HAND}",
    HTTPStatus.FORBIDDEN: f"a link may have run out; renew it, or {BY_HAND}",
    HTTPStatus.NOT_FOUND: f"correct the address, or {BY_HAND}",
    HTTPStatus.GONE: f"correct the address, or {BY_HAND}",
}
Kind = TypeVar("Kind", bound=BaseException)
QUERY = re.compile(r"\?[^\s\"']+")


class Interrupted(Exception):
    """A try that failed where another may not."""

    def __init__(self, reason: str, asked_s: float | None = None) -> None:
        super().__init__(reason)
        self.asked_s = asked_s  # seconds after which the server wants to be asked again


class CarefulSession(requests.Session):
    """Follows no redirect that gives up https, unless a hash vouches for what comes."""

    def __init__(self, wanted: Wanted) -> None:
        super().__init__()
        self.wanted = wanted
        self.headers.update(HEADERS)
        self.max_redirects = MAX_REDIRECTS
        logging.getLogger("urllib3.connectionpool").addFilter(WITHOUT_QUERY)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            _check_redirect(urljoin(resp.url, target), self.wanted)
        return target


class WithoutQuery(logging.Filter):
    """Takes the queries out of what urllib3 logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = QUERY.sub("?...", record.getMessage()), ()
        return True


WITHOUT_QUERY = WithoutQuery()


def ask(session: CarefulSession, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The server's answer, its body still to come.

    Raises:
        Interrupted: there is none, though there may be one later.
        StudyError: there will be none.
    """
    wanted = session.wanted
    try:
        return session.get(wanted.url, headers=headers, stream=True, timeout=(patience.connect_s, patience.read_s))
    except requests.TooManyRedirects:
        raise wanted.refusal(f"redirects more than {MAX_REDIRECTS} times, maybe in a circle") from None
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        host = urlsplit(str(error.request.url)).hostname if error.request else wanted.host
        if certificate := _cause(error, ssl.SSLCertVerificationError):
            raise _untrusted(wanted, host, certificate.verify_message) from None
        raise Interrupted(f"{host}: {reason_of(error)}") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise wanted.refusal(f"cannot be asked for ({type(error).__name__})") from None
    except OSError as error:  # requests' own, of a certificate file that is not there
        raise wanted.refusal(f"cannot be asked for: {error}", "correct REQUESTS_CA_BUNDLE") from None


def body_block(response: requests.Response, size: int) -> bytes:
    """What has come of the body, at most `size` bytes; empty at its end.

    Raises:
        Interrupted: it ended too early.
    """
    try:
        return response.raw.read1(size, decode_content=False)
    except urllib3.exceptions.HTTPError as error:
        raise Interrupted(reason_of(error)) from None


def check_status(response: requests.Response, wanted: Wanted) -> None:
    """Whether the file comes with this answer, whole or in part.

    Raises:
        Interrupted: the server is busy or broken for the moment.
        StudyError: it will not give the file.
    """
    status = response.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status in WORTH_ANOTHER_TRY or status >= 500:
        raise Interrupted(f"the server answers {_name(status)}", _retry_after(response))
    raise wanted.refusal(f"is not to be had: the server answers {_name(status)}", REMEDIES.get(status, BY_HAND))


def reason_of(error: Exception) -> str:
    """Why a connection failed, in the system's words: what the libraries say holds the whole address."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    proxy = "the proxy cannot be used: " if isinstance(error, requests.exceptions.ProxyError) else ""
    words = [_words(cause) for cause in _causes(error) if _words(cause)]
    return proxy + (words[-1] if words else "the connection was cut")


def _words(error: BaseException) -> str:
    """Of the system, or of a proxy that says no; a subclass's own may hold an address."""
    if not isinstance(error, OSError):
        return ""
    return error.strerror or (str(error) if type(error) is OSError else "")


def _check_redirect(target: str, wanted: Wanted) -> None:
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https"):
        raise wanted.refusal(f"redirects to {parts.scheme}, which is not supported")
    if parts.scheme == "http" and wanted.sha256 is None:
        raise wanted.refusal(
            f"redirects to plain http ({parts.hostname}), where anyone may change the file",
            f"give {wanted.key}.sha256, or {BY_HAND}",
        )


def _untrusted(wanted: Wanted, host: str | None, reason: str) -> StudyError:
    return wanted.refusal(
        f"cannot be trusted: the certificate of {host} is not valid ({reason})",
        f"give your own authority's certificates in REQUESTS_CA_BUNDLE, or {BY_HAND}",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _cause(error: BaseException, kind: type[Kind]) -> Kind | None:
    return next((cause for cause in _causes(error) if isinstance(cause, kind)), None)


def _name(status: int) -> str:
    known = {member.value: member.phrase for member in HTTPStatus}
    return f"{status} {known.get(status, '')}".strip()


def _retry_after(response: requests.Response) -> float | None:
    """Seconds; the header gives them, or a date; None if it is absent, or nonsense such as a date in the year 99999."""
    try:
        return float(urllib3.Retry().parse_retry_after(response.headers["Retry-After"]))
    except (KeyError, ValueError, OverflowError, urllib3.exceptions.InvalidHeader):
        return None
