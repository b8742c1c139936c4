"""Brings a file over a network that fails: goes on where a cut left it, for as long as something new comes."""

import logging
import re
import shutil
import time

import requests

from pipeline.data.fetching.archive_members import is_web_page
from pipeline.data.fetching.download.cache import Origin, Partial
from pipeline.data.fetching.download.connection import CarefulSession, Interrupted, ask, body_block, check_status
from pipeline.data.fetching.download.meter import Meter
from pipeline.data.fetching.download.patience import Patience, Tries
from pipeline.data.fetching.download.wanted import BY_HAND, Wanted
from pipeline.errors import StudyError

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 16
CONTENT_RANGE = re.compile(r"bytes (?P<first>[0-9]{1,18})-[0-9]+/(?P<total>[0-9]{1,18}|\*)")
WEB_PAGE = "is a web page, not an archive: a login, a notice, or the page that leads to the file"


def transfer(wanted: Wanted, partial: Partial, patience: Patience, meter: Meter) -> bool:
    """Fills the partial file, and says whether it was put together from parts.

    Raises:
        StudyError: the server will not give the file, gives another, or nothing came for too long.
    """
    tries = Tries(patience, partial.size)
    with CarefulSession(wanted) as session:
        while not is_complete(partial):
            try:
                return _try(session, partial, patience, meter)
            except Interrupted as stop:
                tries.note(partial.size)
                _pause(tries, stop, wanted, partial)
    return True


def is_complete(partial: Partial) -> bool:
    """Whether a download ended right after its last byte."""
    return partial.size == partial.origin.total > 0


def _pause(tries: Tries, stop: Interrupted, wanted: Wanted, partial: Partial) -> None:
    if tries.are_enough:
        again = (
            f"run it again to go on from the {partial.size:,} bytes that are here" if partial.size else "run it again"
        )
        raise wanted.refusal(
            f"does not come: {stop}; tries in a row that brought nothing new: {tries.fruitless}",
            f"{again}, or {BY_HAND}",
        )
    wait_s = tries.wait_s(stop.asked_s)
    log.warning("%s: %s; next try in %.3g s", wanted.key, stop, wait_s)
    time.sleep(wait_s)


def _try(session: CarefulSession, partial: Partial, patience: Patience, meter: Meter) -> bool:
    """Brings what is missing, and says whether something was there."""
    wanted = session.wanted
    with ask(session, _range_headers(partial, wanted), patience) as response:
        origin, start = _start(response, partial, wanted)
        if start == 0:
            partial.restart(origin)
        limit = origin.total or wanted.size_bytes or 0
        meter.start(start, limit)
        _receive(response, partial, limit, meter, wanted)
        whole = origin.total or (0 if response.raw.chunked else limit)  # chunks tell their end from a cut
    if partial.size < whole:
        raise Interrupted("the connection was cut")
    return start > 0


def _range_headers(partial: Partial, wanted: Wanted) -> dict[str, str]:
    """Asks for the rest only where what is here can be told from the start of another file, now or by its hash."""
    validator = partial.origin.validator
    if not partial.size or not (validator or wanted.sha256):
        return {}
    condition = {"If-Range": validator} if validator else {}
    return {"Range": f"bytes={partial.size}-", **condition}


def _start(response: requests.Response, partial: Partial, wanted: Wanted) -> tuple[Origin, int]:
    """What the server says of the file, and the byte at which its answer begins: 0, or the end of what is here."""
    if response.status_code == requests.codes.requested_range_not_satisfiable and partial.size:
        partial.drop()
        raise Interrupted("the file became shorter than what was here of it")
    check_status(response, wanted)
    if "html" in response.headers.get("Content-Type", "").lower():
        raise wanted.refusal(WEB_PAGE)
    origin, start = _said(response)
    if start not in (0, partial.size) or (start and not _is_same(origin, partial.origin)):
        partial.drop()
        raise Interrupted("what comes does not go on where the last try ended")
    if origin.total:
        wanted.check_size(origin.total)
    _check_space(max(origin.total - start, 0), partial, wanted)
    return origin, start


def _said(response: requests.Response) -> tuple[Origin, int]:
    """Which file it is, and at which byte the answer begins; -1 for a part that does not say."""
    etag, modified = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
    length = response.raw.length_remaining or 0
    if response.status_code == requests.codes.ok:
        return Origin(etag=etag, last_modified=modified, total=length), 0
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if not found:
        return Origin(), -1
    total = 0 if found["total"] == "*" else int(found["total"])
    return Origin(etag=etag, last_modified=modified, total=total), int(found["first"])


def _is_same(now: Origin, before: Origin) -> bool:
    """Unless something tells the files apart; a server may leave a header out of a part."""
    pairs = [(now.etag, before.etag), (now.last_modified, before.last_modified), (now.total, before.total)]
    return all(a == b or not a or not b for a, b in pairs)


def _check_space(missing_bytes: int, partial: Partial, wanted: Wanted) -> None:
    free = shutil.disk_usage(partial.path.parent).free
    if missing_bytes > free:
        raise wanted.refusal(
            f"has {missing_bytes:,} bytes to come, but only {free:,} are free in {partial.path.parent}",
            "free some space, or set DATASET_CACHE to a folder on another disk",
        )


def _receive(response: requests.Response, partial: Partial, limit: int, meter: Meter, wanted: Wanted) -> None:
    size = partial.size
    with partial.path.open("ab") as file:
        while block := body_block(response, BLOCK_BYTES):
            if size == 0 and is_web_page(block):
                raise _useless(WEB_PAGE, partial, wanted)
            size += len(block)
            if 0 < limit < size:
                raise _useless(f"sends more than the {limit:,} bytes that it should have", partial, wanted)
            file.write(block)
            meter(size, limit)


def _useless(reason: str, partial: Partial, wanted: Wanted) -> StudyError:
    partial.drop()
    return wanted.refusal(reason)
