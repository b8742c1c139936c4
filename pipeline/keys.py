"""Keys of unfinished work: hashes of everything that decides a result, by which it is known again after a kill."""

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

from pipeline.packages import package_versions


def key_of(deciding: Mapping[str, object], code: Collection[str] = ("",), packages: Collection[str] = ()) -> str:
    """Hash of what is given, and of our own code and the packages, which decide every number too.

    Args:
        deciding: what JSON can hold.
        code: folders and files of this package; all of it, if not said.
        packages: beside those that decide all numbers.
    """
    whole = {**deciding, "packages": package_versions(*packages), "code": code_sha256(*code)}
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


@cache
def code_sha256(*parts: str) -> str:
    """Of this package's source, or some folders and files of it, as it was when this process first asked."""
    here, digest = Path(__file__).parent, hashlib.sha256()
    named = [here / part for part in parts or ("",)]
    for path in sorted({path for part in named for path in ([part] if part.is_file() else part.rglob("*.py"))}):
        digest.update(f"{path.relative_to(here).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()
