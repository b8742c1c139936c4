"""Which image files cannot be used: the error that says why, and what is refused by a file's header alone."""

MAX_PIXELS = 50_000_000  # 150 MB as RGB; the largest real image has under a million
MIN_SIDE_PX = 16


class UnreadableError(Exception):
    """An image file that cannot be used; the message says why, whoever knows the file's name adds it."""


def check_size(width: int, height: int) -> None:
    """Raises UnreadableError; to be asked before memory is taken for pixels."""
    if width * height > MAX_PIXELS:
        raise UnreadableError(f"{width} x {height} px are more than {MAX_PIXELS:,} pixels")
    if min(width, height) < MIN_SIDE_PX:
        raise UnreadableError(f"{width} x {height} px is too small; each side needs {MIN_SIDE_PX}")


def check_frames(frames: int) -> None:
    """Raises UnreadableError: which of several frames the label is about, nobody knows."""
    if frames > 1:
        raise UnreadableError(f"{frames} frames; save the one that counts as an image of its own")
