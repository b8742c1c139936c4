"""Whether a folder of artifacts still holds what was written: each file is there, and has the hash of its manifest."""

from collections.abc import Mapping

from pipeline import tracking
from pipeline.files import sha256_of
from pipeline.records import Manifest

MISSING, ALTERED = "missing", "altered"


def file_problems(
    client: tracking.MlflowClient, uri: str, manifest: Manifest, thorough: bool = False
) -> dict[str, str]:
    """By path, what is wrong with the files of a folder that should hold what the manifest lists, and the manifest.

    Args:
        thorough: files behind a server are fetched and read; else they only have to be there.
    """
    wanted = manifest.files | {Manifest.file_name: manifest.sha256}
    return _differences(wanted, tracking.stored_files(client, uri, thorough))


def kept_problems(
    client: tracking.MlflowClient, uri: str, manifest_sha256: str, thorough: bool = False
) -> dict[str, str]:
    """As `file_problems`, where only the hash of the manifest is known and the folder's own is to be believed by it."""
    with tracking.stored_file(client, uri, Manifest.file_name) as path:
        if path is None:
            return {Manifest.file_name: MISSING}
        if sha256_of(path) != manifest_sha256:
            return {Manifest.file_name: ALTERED}
        manifest = Manifest.read_from(path)
    return file_problems(client, uri, manifest, thorough)


def _differences(wanted: Mapping[str, str], found: Mapping[str, str | None]) -> dict[str, str]:
    missing = {path: MISSING for path in wanted if path not in found}
    return missing | {path: ALTERED for path, sha256 in wanted.items() if found.get(path) not in (None, sha256)}
