"""What is asked for: an address that may be used, what the file must be, and how the user hears that it is not."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urldefrag, urlsplit

from pipeline.errors import StudyError
from pipeline.files import without_query

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
    def shown(self) -> str:
        return without_query(self.url)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def refusal(self, reason: str, remedy: str = BY_HAND, field: str = "source") -> StudyError:
        hint = f"; {self.hint}" if self.hint else ""
        return StudyError(f"{self.key}.{field}: {self.shown} {reason}; {remedy}{hint}")

    def check_size(self, size_bytes: int) -> None:
        """Against the one that was given, if any.

        Raises:
            StudyError: it is another.
        """
        if self.size_bytes not in (None, size_bytes):
            raise self.refusal(
                f"has {size_bytes:,} bytes, not {self.size_bytes:,}",
                f"correct the key if the file was to change, or {BY_HAND}",
                "size_bytes",
            )

    def check_sha256(self, sha256: str, size_bytes: int) -> None:
        """Against the one that was given, if any.

        Raises:
            StudyError: it is another.
        """
        if self.sha256 not in (None, sha256):
            raise self.refusal(
                f"has sha256 {sha256} ({size_bytes:,} bytes), not {self.sha256}, and was not kept",
                f"correct the key if the file was to change, or {BY_HAND}",
                "sha256",
            )


def checked(url: str, sha256: str | None, size_bytes: int | None, key: str, hint: str) -> Wanted:
    """The file that is asked for, under an address that can be trusted or with a hash that makes up for it.

    Raises:
        StudyError: the address is none, holds a password, or is neither https nor, with a hash, http.
    """
    parts = _parts(url, key)
    wanted = Wanted(urldefrag(url).url, sha256, size_bytes, key, hint)
    if "@" in parts.netloc:
        raise wanted.refusal("holds a user name or a password", "put them into ~/.netrc and give the address without")
    if parts.scheme not in ("https", "http"):
        raise wanted.refusal(
            f"cannot be downloaded: {parts.scheme} is not supported", f"give an https address, or {BY_HAND}"
        )
    if parts.scheme == "http" and not wanted.sha256:
        raise wanted.refusal("is plain http, where anyone may change the file", f"give https, or {key}.sha256")
    return wanted


def _parts(url: str, key: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0:  # asking for the port checks it
            return parts
    except ValueError:
        pass
    raise StudyError(f"{key}.source: not a web address; write it as https://host/path")
