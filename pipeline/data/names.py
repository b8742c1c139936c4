"""The files of a set by their names: which can be images, which are hidden, and how names are compared.

DICOM files often have no suffix (`IM000001`), or one of a number's digits (`1.2.840.113619`): their beginning tells.
"""

import os
import unicodedata
from pathlib import Path, PurePosixPath

from pipeline.errors import StudyError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".dcm")
DICOM_HEAD_BYTES = 132  # a preamble of 128 bytes, then DICM


def list_files(folder: Path, shown: str) -> list[PurePosixPath]:
    """All files under the folder, relative to it and sorted; linked folders are not entered.

    Args:
        shown: what the user calls the folder, for messages.

    Raises:
        StudyError: a name is not Unicode or holds a carriage return, so that no table could hold it.
    """
    found = []
    for parent, _, names in os.walk(folder):
        found += [PurePosixPath(Path(parent, name).relative_to(folder).as_posix()) for name in names]
    for path in found:
        if any("\udc80" <= letter <= "\udcff" for letter in str(path)):
            raise StudyError(f"{shown}: the file name {str(path)!a} is not UTF-8; rename the file")
        if "\r" in str(path):
            raise StudyError(f"{shown}: the file name {str(path)!a} holds a carriage return; rename the file")
    return sorted(found, key=str)


def is_image_file(folder: Path, path: PurePosixPath) -> bool:
    """Whether the file, relative to the folder, can be an image or a mask; reads a few bytes of one without suffix."""
    return not is_hidden(path) and (has_image_suffix(path) or (may_be_dicom(path) and _is_dicom_file(folder / path)))


def has_image_suffix(path: PurePosixPath) -> bool:
    return path.suffix.lower() in SUFFIXES


def is_hidden(path: PurePosixPath) -> bool:
    """Whether it, or a folder above it, is a hidden file or one that macOS adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def may_be_dicom(path: PurePosixPath) -> bool:
    """Whether the name leaves it to the content what the file is."""
    return path.suffix == "" or path.suffix[1:].isdigit()


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins so, with `DICOM_HEAD_BYTES` or more, is one."""
    return head[128:DICOM_HEAD_BYTES] == b"DICM"


def _is_dicom_file(path: Path) -> bool:
    if not path.is_file():  # a dead link
        return False
    with path.open("rb") as file:
        return is_dicom(file.read(DICOM_HEAD_BYTES))


def without_suffix(path: PurePosixPath) -> PurePosixPath:
    """The path without the suffix of an image; `cell.v2` and `1.2.840` keep what follows their last dot."""
    return path.with_suffix("") if has_image_suffix(path) else path


def spelling(text: str) -> str:
    """Equal also where one name spells é as one letter and another as two."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """Its spelling whatever the case."""
    return spelling(text).casefold()
