"""The weights file of a timm tag: from the local hub cache, else from the hub; a dead hub is given up within seconds.

The environment decides as everywhere with the hub: HF_HOME (cache), HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE=1.
The hub's own client downloads and is only watched here. Left to itself it clings to a hub that answers 500 for 23 s, to
a download that stalls for 65 s, to silence for 393 s (huggingface_hub 2.4, measured).
"""

import atexit
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import TypeVar

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError
from huggingface_hub.file_download import repo_folder_name

from pipeline.errors import StudyError

logger = logging.getLogger(__name__)

PAGES = "https://huggingface.co"  # for people, whatever mirror files are fetched from
FILE_NAMES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
TRY_S = 4  # until one of the hub's machines answers, and between two pieces of a file
GIVE_UP_S = 8.5  # without any sign of life, which leaves a download that stalls a second try
LOOK_S = 0.2  # between two looks at what the client has written
BLOCK_BYTES = 1 << 16

T = TypeVar("T")


def hub_file(repository: str, arch: str) -> Path:
    """The weights file of a hub repository, downloaded into the local cache unless it lies there.

    Raises:
        StudyError: it is not in the cache and the hub is out of reach, refuses it, or has no such file.
    """
    if cached := _cached(repository):
        return cached
    if constants.is_offline_mode():
        raise _absent(repository, arch, "HF_HUB_OFFLINE is set")
    try:
        return _fetch(repository)
    except (OSError, HTTPError) as error:
        raise _absent(repository, arch, f"{constants.ENDPOINT}: {_reason(error, repository)}") from None


def _cached(repository: str) -> Path | None:
    found = (try_to_load_from_cache(repository, name) for name in FILE_NAMES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _fetch(repository: str) -> Path:
    """The first of the files that the repository holds."""
    _set_up_client()
    for name in FILE_NAMES:
        try:  # asked once: a download of its own asks a hub that answers 500 again and again
            _watched(repository, partial(get_hf_file_metadata, hf_hub_url(repository, name), timeout=TRY_S))
        except EntryNotFoundError:
            continue
        logger.info("fetching %s of %s from %s", name, repository, constants.ENDPOINT)
        return Path(_watched(repository, partial(hf_hub_download, repository, name, etag_timeout=TRY_S)))
    raise FileNotFoundError(f"holds none of {', '.join(FILE_NAMES)}")


def _set_up_client() -> None:
    """Process-wide, since a download has no arguments for these."""
    constants.HF_HUB_DISABLE_XET = True  # it keeps in memory what came, and for minutes nothing is seen on the disk
    constants.DOWNLOAD_CHUNK_SIZE = BLOCK_BYTES  # its own 10 MB take longer than GIVE_UP_S on a line of 9 Mbit/s
    constants.HF_HUB_DOWNLOAD_TIMEOUT = TRY_S


def _watched(repository: str, call: Callable[[], T]) -> T:
    """What the client's `call` returns. It is left to itself when nothing new of the repository reaches the disk."""
    before, outcome = _unfinished(repository), _in_background(call)
    try:
        _wait_while_alive(repository, outcome)
    finally:  # given up or interrupted: the client clears up, unless the process ends first
        if not outcome.done():
            for path in _unfinished(repository).keys() - before.keys():
                atexit.register(path.unlink, missing_ok=True)
    return outcome.result()


def _wait_while_alive(repository: str, outcome: Future[T]) -> None:
    """What another process writes is a sign of life too, since the client waits for that.

    What is written once more after a cut is none: behind a proxy that always cuts at the same byte, and knows no
    ranges, there would be no end.
    """
    most, since = _unfinished(repository), monotonic()
    while not wait([outcome], LOOK_S).done:
        before, most = most, most | _unfinished(repository)  # the most that each file ever had
        if most != before:
            since = monotonic()
        elif monotonic() - since > GIVE_UP_S:
            raise TimeoutError(f"nothing new came for {GIVE_UP_S:g} s")


def _in_background(call: Callable[[], T]) -> Future[T]:
    """A thread that nothing waits for, not even the end of the process; no executor has such."""
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # told to whoever waits
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return outcome


def _unfinished(repository: str) -> Counter[Path]:
    """The files that are being downloaded, and how many bytes each has."""
    sizes: Counter[Path] = Counter()
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"), "blobs")
    for path in folder.glob("*.incomplete"):
        with suppress(FileNotFoundError):  # it is whole by now, and in its place
            sizes[path] = path.stat().st_size
    return sizes


def _reason(error: BaseException, repository: str) -> str:
    """The hub's answer; or the words of the innermost error, above which each layer says less."""
    if isinstance(error, HfHubHTTPError):
        status, phrase = error.response.status_code, error.response.reason_phrase
        remedy = f"if it is gated, accept its terms at {PAGES}/{repository} and set HF_TOKEN"
        refused = f": gated, private or no such repository; {remedy}"
        return f"answers {status}" + (refused if status in (401, 403) else f" {phrase}")
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


def _absent(repository: str, arch: str, reason: str) -> StudyError:
    """The remedy: a copy of the repository; or a lone file, whose normalisation the tag in `arch` then says."""
    name, tag = arch.split(".")[0], repository.rpartition(".")[2]
    return StudyError(
        f"weights: {repository} is not in the local hub cache and was not fetched: {reason}; put the path of a copy of "
        f"that repository here, or the path of a local file and the tag into arch ({name}.{tag}), or use none"
    )
