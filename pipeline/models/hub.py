"""The weights file of a timm tag: from the local hub cache, else from the hub; a dead hub is given up within seconds.

The environment decides as everywhere with the hub: HF_HOME (cache), HF_ENDPOINT (a mirror), HF_TOKEN, HF_HUB_OFFLINE=1.
The hub's own client downloads and is only watched here. Left to itself it clings to a hub that answers 500 for 23 s, to
a download that stalls for 65 s, to silence for 393 s (huggingface_hub 2.4, measured).
"""

import logging
from functools import partial
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HTTPError
from huggingface_hub.file_download import repo_folder_name

from pipeline.errors import StudyError
from pipeline.models.watched import Watch

logger = logging.getLogger(__name__)

PAGES = "https://huggingface.co"  # for people, whatever mirror files are fetched from
FILE_NAMES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
TRY_S = 4  # until one of the hub's machines answers, and between two pieces of a file
GIVE_UP_S = 8.5  # until the file begins, and without anything new of it; leaves a download that stalls a second try
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
        return _fetch(repository)
    except (OSError, HTTPError) as error:
        raise _absent(repository, arch, f"{constants.ENDPOINT}: {_reason(error, repository)}") from None


def _cached(repository: str) -> Path | None:
    found = (try_to_load_from_cache(repository, name) for name in FILE_NAMES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _fetch(repository: str) -> Path:
    """The first of the files that the repository holds."""
    _set_up_client()
    folder = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type="model"), "blobs")
    watch = Watch(folder, GIVE_UP_S)
    for name in FILE_NAMES:
        try:  # asked once: a download of its own asks a hub that answers 500 again and again
            watch.run(partial(get_hf_file_metadata, hf_hub_url(repository, name), timeout=TRY_S))
        except EntryNotFoundError:
            continue
        logger.info("fetching %s of %s from %s", name, repository, constants.ENDPOINT)
        return Path(watch.run(partial(hf_hub_download, repository, name, etag_timeout=TRY_S)))
    raise FileNotFoundError(f"holds none of {', '.join(FILE_NAMES)}")


def _set_up_client() -> None:
    """Process-wide, since a download has no arguments for these."""
    constants.HF_HUB_DISABLE_XET = True  # it keeps in memory what came, and for minutes nothing is seen on the disk
    constants.DOWNLOAD_CHUNK_SIZE = BLOCK_BYTES  # its own 10 MB take longer than GIVE_UP_S on a line of 9 Mbit/s
    constants.HF_HUB_DOWNLOAD_TIMEOUT = TRY_S


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
