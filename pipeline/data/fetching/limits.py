"""How much an archive may unpack to: as much as the disk holds, unless it swells as no images do.

A mask saved as BMP or TIFF shrinks as far as a bomb does, a thousandfold. So the ratio counts only where what swells
could do harm: in one file larger than nearly every mask, or in all of them together.
"""

import shutil
from pathlib import Path

from pipeline.errors import StudyError

MAX_MEMBERS = 2_000_000  # folders included; PBC has 17,093
MAX_RATIO = 200  # unpacked to packed
FREE_MEMBER_BYTES = 16 << 20  # of one file, up to which its ratio does not matter; a mask of 2048 x 2048 RGB has 12 MiB
FREE_BYTES = 1 << 30  # of all files, inner archives included, likewise
RESERVE_BYTES = 1 << 30  # left free on the disk for everything else
BY_HAND = "unpack it by hand and give the folder's path"
TRUSTED = f"if you trust it, {BY_HAND}"


def check_count(members: int, shown: str) -> None:
    """Raises StudyError."""
    if members > MAX_MEMBERS:
        raise StudyError(f"{shown}: holds more than {MAX_MEMBERS:,} files; is it the image set? If so, {BY_HAND}")


def check_member(unpacked: int, packed: int, name: str, shown: str) -> None:
    """Of one file; raises StudyError."""
    if unpacked > max(MAX_RATIO * packed, FREE_MEMBER_BYTES):
        raise StudyError(f"{shown}: {name!r} unpacks to {unpacked:,} bytes, over {MAX_RATIO} times its size; {TRUSTED}")


def check_total(unpacked: int, packed: int, shown: str) -> None:
    """Of all files so far; raises StudyError."""
    if unpacked > max(MAX_RATIO * packed, FREE_BYTES):
        raise StudyError(
            f"{shown}: unpacks to over {FREE_BYTES:,} bytes and over {MAX_RATIO} times its size; {TRUSTED}"
        )


def room_in(folder: Path) -> int:
    """Bytes that may be written there."""
    return max(shutil.disk_usage(folder).free - RESERVE_BYTES, 0)


def check_room(needed: int, room: int, folder: Path, shown: str) -> None:
    """Raises StudyError."""
    if needed > room:
        raise StudyError(
            f"{shown}: its images take {needed:,} bytes, but only {room:,} are to spare in {folder.absolute()}; free "
            "some space"
        )
