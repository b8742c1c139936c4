"""The weights file of a timm tag: from the local hub cache, else from the hub; refused within seconds when offline.

The environment decides as everywhere with the hub: HF_HOME (cache), HF_ENDPOINT (a mirror), HF_HUB_OFFLINE=1.
"""

import logging
import ssl
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

from pipeline.errors import StudyError

logger = logging.getLogger(__name__)

FILE_NAMES = ("model.safetensors", "pytorch_model.bin")  # in order of preference
PROBE_S = 3.0  # the hub's own client goes on trying for 45 s


def hub_file(repository: str, arch: str) -> Path:
    """The weights file of a hub repository, downloaded into the local cache unless it lies there.

    Raises:
        StudyError: it is not in the cache and the hub is out of reach, or has no such file.
    """
    if cached := _cached(repository):
        return cached
    if constants.is_offline_mode():
        raise _absent(repository, arch, "HF_HUB_OFFLINE is set")
    if reason := _unreachable(constants.ENDPOINT):
        raise _absent(repository, arch, f"{constants.ENDPOINT} cannot be reached ({reason})")
    return _download(repository, arch)


def _cached(repository: str) -> Path | None:
    found = (try_to_load_from_cache(repository, name, cache_dir=constants.HF_HUB_CACHE) for name in FILE_NAMES)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def _unreachable(endpoint: str) -> str:
    """Why there is no way to the hub; empty if there is one. Any answer counts, even a refusal."""
    try:
        urlopen(Request(endpoint, method="HEAD"), timeout=PROBE_S).close()
    except (HTTPError, HTTPException):
        return ""
    except (URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return "" if isinstance(reason, ssl.SSLError) else str(reason)  # certificates are the client's affair
    return ""


def _download(repository: str, arch: str) -> Path:
    logger.info("fetching %s from %s", repository, constants.ENDPOINT)
    for name in FILE_NAMES:
        try:
            return Path(hf_hub_download(repository, name, cache_dir=constants.HF_HUB_CACHE))
        except LocalEntryNotFoundError as error:
            raise _absent(repository, arch, str(error.__cause__ or error).split("\n")[0]) from None
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise _absent(repository, arch, str(error).split("\n")[0]) from None
    raise _absent(repository, arch, f"it holds none of {', '.join(FILE_NAMES)}")


def _absent(repository: str, arch: str, reason: str) -> StudyError:
    """The remedy: a local file. It does not say its normalisation, so the tag moves to `arch`."""
    name, tag = arch.split(".")[0], repository.rpartition(".")[2]
    return StudyError(
        f"weights: {repository} is not in the local hub cache and was not fetched: {reason}; "
        f"put the path of a local file here and the tag into arch ({name}.{tag}), or use none"
    )
