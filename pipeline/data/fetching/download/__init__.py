"""Download an archive into the user's cache: whole, verified, and once for all projects.

    wanted      what is asked for, and the refusals
    cache       where it lies; DATASET_CACHE chooses the folder
    transfer    the loop: goes on where a cut left the file
    connection  one question to a server, and what its answer means
    patience    time limits and pauses
    meter       progress

HTTP itself is requests': ~/.netrc, the proxy variables and REQUESTS_CA_BUNDLE count as everywhere.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.fetching.archive import check_is_archive
from pipeline.data.fetching.download.cache import Entry, Partial, Record, entry_of, usable_cache
from pipeline.data.fetching.download.meter import Meter
from pipeline.data.fetching.download.patience import Patience
from pipeline.data.fetching.download.transfer import transfer
from pipeline.data.fetching.download.wanted import Wanted, checked
from pipeline.errors import StudyError
from pipeline.files import sha256_of

log = logging.getLogger(__name__)

PATIENCE = Patience()


@dataclass(frozen=True)
class Download:
    """A file in the cache, complete and verified."""

    path: Path
    sha256: str
    size_bytes: int


def download(
    url: str,
    sha256: str | None,
    size_bytes: int | None,
    key: str,
    progress: Callable[[int, int], None],
    hint: str = "",
    patience: Patience = PATIENCE,
) -> Download:
    """The file of that address, from the cache if it is there.

    Without a hash the first download decides: it is named for params.yaml, and the address must give it ever after.

    Args:
        key: of params.yaml, under which `source`, `sha256` and `size_bytes` stand; for messages.
        progress: told the bytes that are there and the bytes in all (0: unknown).
        hint: what else the user can do, the end of most refusals.

    Raises:
        StudyError: the address cannot be trusted, the file does not come or is another, or the cache cannot hold it.
    """
    wanted = checked(url, sha256, size_bytes, key, hint)
    entry = entry_of(wanted.url)
    with usable_cache(key):
        record = _cached(entry, wanted)
        if not record:
            with entry.locked(key):
                record = _cached(entry, wanted) or _fetch(entry, wanted, patience, progress)
    if sha256 is None:
        _name_pin(record, key)
    progress(record.size_bytes, record.size_bytes)
    return Download(entry.archive, record.sha256, record.size_bytes)


def _cached(entry: Entry, wanted: Wanted) -> Record | None:
    """What the cache holds, if it is undamaged and what is asked for."""
    record = entry.record
    if not record or wanted.sha256 not in (None, record.sha256) or wanted.size_bytes not in (None, record.size_bytes):
        return None
    return record if entry.is_whole(record) else None


def _fetch(entry: Entry, wanted: Wanted, patience: Patience, progress: Callable[[int, int], None]) -> Record:
    if entry.archive.exists():
        log.warning("%s: %s is damaged or not the file asked for; downloads it anew", wanted.key, entry.archive)
    log.info("%s: downloads %s to %s", wanted.key, wanted.shown, entry.archive.parent)
    with Meter(wanted.key, patience.log_every_s, progress) as meter:
        record = _bring(entry, wanted, patience, meter)
    entry.keep(record)
    return record


def _bring(entry: Entry, wanted: Wanted, patience: Patience, meter: Meter) -> Record:
    """Parts from several tries may belong to different files, so they get a second chance as one."""
    in_parts = transfer(wanted, entry.partial, patience, meter)
    try:
        return _verified(entry, wanted)
    except StudyError:
        if not in_parts:
            raise
    log.warning("%s: the parts that several tries brought do not fit; downloads all of it anew", wanted.key)
    transfer(wanted, entry.partial, patience, meter)
    return _verified(entry, wanted)


def _verified(entry: Entry, wanted: Wanted) -> Record:
    """The record of the partial file if it is what is asked for; else the file goes."""
    partial = entry.partial
    record = Record(url=wanted.shown, sha256=sha256_of(partial.path), size_bytes=partial.size, etag=partial.origin.etag)
    try:
        _check(partial, record, entry, wanted)
    except StudyError:
        partial.drop()
        raise
    return record


def _check(partial: Partial, record: Record, entry: Entry, wanted: Wanted) -> None:
    wanted.check_size(record.size_bytes)
    wanted.check_sha256(record.sha256, record.size_bytes)
    if wanted.sha256 is None:
        _check_unpinned(partial, record, entry, wanted)


def _check_unpinned(partial: Partial, record: Record, entry: Entry, wanted: Wanted) -> None:
    """No hash vouches for the file: it is at least an archive, and that of the first time."""
    try:
        check_is_archive(partial.path)
    except StudyError as error:
        reason = str(error).removeprefix(f"{partial.path}: ").split(";")[0]
        raise wanted.refusal(f"gives no archive: {reason}") from None
    first = entry.record
    if first and first.sha256 != record.sha256:
        raise wanted.refusal(
            f"is another file than the first time: sha256 {record.sha256} ({record.size_bytes:,} bytes), not "
            f"{first.sha256} ({first.size_bytes:,} bytes)",
            f"if that is right, put the new sha256 under {wanted.key}, or delete {entry.record_path}",
        )


def _name_pin(record: Record, key: str) -> None:
    log.info(
        "%s: nothing in params.yaml says which file this must be; put these lines under %s:\n"
        "    sha256: %s\n    size_bytes: %d",
        key, key, record.sha256, record.size_bytes,
    )  # fmt: skip
