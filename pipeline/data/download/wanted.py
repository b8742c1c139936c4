"""What is asked for: an address that may be used, what the file must be, and how the user hears that it is not."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urldefrag, urlsplit

from pipeline.errors import StudyError

BY_HAND = "download it in a browser and give the file's path"


@dataclass(frozen=True)
class Wanted:
    """A file that is asked for; what is None is not known beforehand."""

    url: str
    sha256: str | None
    size_bytes: int | None
    key: str  # of params.yaml, under which `source` stands: "datasets.busi"
    hint: str  # for whoever must get the file otherwise; may be empty

    @property
    def without_query(url: str) -> str:
    """The address without what may be a secret: a login, or a token in the query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _parts(url: str, key: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:  # asking for the port checks it
            return parts
    except ValueError:
        pass
    raise StudyError(f"{key}.source: not a web address; write it as https://host/path")
