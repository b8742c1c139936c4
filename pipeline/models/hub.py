"""The weights file of a timm tag: from the local hub cache, else from the hub; a dead hub is given up within seconds.

The environment decides as everywhere with the hub: HF_HOME (cache), HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE=1.
The hub's own client is not asked to download: it clings to a hub that answers 500 for 23 s, to a download that stalls
for 65 s, to silence for 393 s (huggingface_hub 2.4, measured), and no setting of it goes below ten seconds. What is
fetched here lies in its cache as if it had fetched it.
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import BinaryIO

import requests
from filelock import FileLock
from huggingface_hub import constants, hf_hub_url, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from pipeline.errors import StudyError
from pipeline.files import whole_file, write_text

logger = logging.getLogger(__name__)

PAGES = "https://huggingface.co"  # for people, whatever mirror files are fetched from
FILE_NAMES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
TRY_S = 4.0  # until one of the hub's machines answers, and between two pieces of a file
GIVE_UP_S = 8.5  # without any sign of life, which leaves a download that stalls a second try
BLOCK_BYTES = 1 << 16


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
        with _alone(repository):
            return _cached(repository) or _watched(lambda alive: _fetch(repository, alive))
    except OSError as error:  # those of requests are
        raise _absent(repository, arch, f"{constants.ENDPOINT}: {_reason(error)}") from None


def _cached(repository: str) -> Path | None:
    found = (try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE) for name in FILE_NAMES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _cache_folder(*parts: str) -> Path:
    return Path(constants.HF_HUB_CACHE).joinpath(*(part.replace("/", "--") for part in parts))


def _alone(repository: str) -> FileLock:
    """Two stages that want the same file fetch it once."""
    lock = _cache_folder(".locks", f"models/{repository}", "fetch.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock)


def _watched(work: Callable[[Callable[[], None]], Path]) -> Path:
    """What `work` returns. It calls its argument at each sign of life, and is left to itself when there is none.

    A thread, since the search for a name's addresses knows no timeout, and each address is waited for in its turn.
    """
    events: SimpleQueue[Future[Path] | None] = SimpleQueue()
    left = Event()

    def alive() -> None:
        if left.is_set():
            raise TimeoutError
        events.put(None)

    Thread(target=lambda: events.put(_outcome(work, alive)), daemon=True).start()
    try:
        while (event := events.get(timeout=GIVE_UP_S)) is None:
            pass
        return event.result()
    except Empty:
        raise TimeoutError(f"no answer for {GIVE_UP_S:g} s") from None
    finally:
        left.set()


def _outcome(work: Callable[[Callable[[], None]], Path], alive: Callable[[], None]) -> Future[Path]:
    outcome: Future[Path] = Future()
    try:
        outcome.set_result(work(alive))
    except Exception as error:  # told to whoever waits
        outcome.set_exception(error)
    return outcome


def _fetch(repository: str, alive: Callable[[], None]) -> Path:
    """The first of the files that the repository holds, in the layout of the hub's cache."""
    for name in FILE_NAMES:
        with _get(hf_hub_url(repository, name), 0) as answer:
            alive()
            if answer.headers.get("X-Error-Code") == "EntryNotFound":
                continue
            _check(answer, repository)
            logger.info("fetching %s of %s from %s", name, repository, constants.ENDPOINT)
            return _keep(answer, repository, name, alive)
    raise FileNotFoundError(f"holds none of {', '.join(FILE_NAMES)}")


def _keep(answer: requests.Response, repository: str, name: str, alive: Callable[[], None]) -> Path:
    commit, folder = _commit(answer), _cache_folder(f"models/{repository}")
    path = folder / "snapshots" / commit / name
    _download(answer, hf_hub_url(repository, name, revision=commit), path, alive)
    write_text(folder / "refs" / constants.DEFAULT_REVISION, commit)
    return path


def _get(url: str, start: int) -> requests.Response:
    """The answer, its body unread from byte `start` on. requests keeps the token from other hosts."""
    wanted = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    return requests.get(url, headers=build_hf_headers() | wanted, stream=True, timeout=TRY_S)


def _check(answer: requests.Response, repository: str) -> None:
    if answer.status_code in (401, 403):
        raise PermissionError(
            f"answers {answer.status_code}: gated, private or no such repository; if it is gated, accept its "
            f"terms at {PAGES}/{repository} and set HF_TOKEN"
        )
    if not answer.ok:
        raise ConnectionError(f"answers {answer.status_code} {answer.reason}")


def _commit(answer: requests.Response) -> str:
    """Said by the hub itself, before it leads to where its files are stored."""
    for each in (*answer.history, answer):
        if commit := each.headers.get("X-Repo-Commit"):
            return commit
    raise ConnectionError("answers as no hub does; is it the page of a proxy?")


def _download(answer: requests.Response, url: str, path: Path, alive: Callable[[], None]) -> None:
    """Goes on after each cut for as long as every try brings something."""
    bar = tqdm(desc=path.name, unit="B", unit_scale=True, disable=None)
    with whole_file(path) as partial, partial.open("wb") as file, bar:
        whole = _append(answer, file, bar, alive)
        while not whole:
            logger.info("%s: cut after %d bytes; going on", path.name, file.tell())
            with _get(url, file.tell()) as rest:
                rest.raise_for_status()
                whole = _append(rest, file, bar, alive)


def _append(answer: requests.Response, file: BinaryIO, bar: tqdm, alive: Callable[[], None]) -> bool:
    """Whether the file is whole now; a try that brings nothing raises."""
    before = file.tell()
    if answer.status_code == requests.codes.ok:  # all of it, also where a server knows no ranges
        file.seek(0)
        file.truncate()
    bar.total = file.tell() + int(answer.headers.get("Content-Length", 0)) or None
    try:
        for block in answer.iter_content(BLOCK_BYTES):
            file.write(block)
            alive()
            bar.update(file.tell() - bar.n)
    except requests.RequestException:
        if file.tell() <= before:
            raise
        return False
    return True


def _reason(error: BaseException) -> str:
    """The words of the innermost error: above it, each layer repeats the address."""
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
