"""Seeds that depend on what they are for, never on the order of work."""

import hashlib


def cell_seed(seed: int, *names: str | int) -> int:
    """A seed in [0, 2**31) that is stable across machines, processes and Python versions."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
