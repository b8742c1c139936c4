"""Find images that are nearly the same by their perceptual hash: 64 bits of the coarse structure of an image.

The distance up to which two hashes mean one picture was measured on the real sets: 4 bits on PBC, 8 on BUSI. What it
misses: crops shifted by more than a few pixels, and other views of one lesion.
"""

import imagehash
import numpy as np
from jaxtyping import Int64, UInt64
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BLOCK = 256  # hashes compared with all others at a time: 256 x 17,092 x 8 bytes are 35 MB


def perceptual_hash(image: Image.Image) -> int:
    """The signs, against their median, of the 8 x 8 lowest frequencies of the image in grey at 32 x 32.

    Source: Krawetz, Looks Like It (2011), as in the library imagehash.
    """
    return int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")


def near_duplicate_groups(hashes: UInt64[np.ndarray, " n"], distance: int) -> Int64[np.ndarray, " n"]:
    """A group number for each image, counted from 0 in order of appearance.

    Images within `distance` bits of each other share a group, and so do those linked by a chain of such pairs.
    """
    unique, inverse = np.unique(hashes, return_inverse=True)
    first, second = _close_pairs(unique, distance)
    links = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(len(unique), len(unique)))
    _, component = connected_components(links, directed=False)
    return _in_order_of_appearance(component.astype(np.int64)[inverse])


def _close_pairs(
    hashes: UInt64[np.ndarray, " n"], distance: int
) -> tuple[Int64[np.ndarray, " p"], Int64[np.ndarray, " p"]]:
    firsts, seconds = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for start in range(0, len(hashes), BLOCK):
        block = hashes[start : start + BLOCK]
        first, second = np.nonzero(np.bitwise_count(block[:, None] ^ hashes[None, start:]) <= distance)
        firsts.append(first[first < second] + start)
        seconds.append(second[first < second] + start)
    return np.concatenate(firsts), np.concatenate(seconds)


def _in_order_of_appearance(groups: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
