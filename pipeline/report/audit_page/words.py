"""How counts, shares, sizes and file names are written on the page."""

from collections.abc import Sequence

NAMED = 3  # files named in a sentence


def printable(text: str) -> str:
    """With letters that cannot be seen, or that turn the text around, written as `\\n` or `\\u202e`."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def counted(count: int, noun: str, several: str = "") -> str:
    """`1 image`, `1,200 images`."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def share(count: int, of: int) -> str:
    """In per cent; what is neither nothing nor all is not rounded to either."""
    percent = 100 * count / of if of else 0.0
    if 0 < percent < 1:
        return "< 1 %"
    return "> 99 %" if 99 < percent < 100 else f"{percent:.0f} %"


def in_bytes(size: int | float) -> str:
    """In bytes, kB, MB or GB, powers of a thousand."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def named(files: Sequence[str]) -> str:
    """The first few files, and how many more there are."""
    more = f" and {len(files) - NAMED:,} more" if len(files) > NAMED else ""
    return ", ".join(map(printable, files[:NAMED])) + more
