"""Find images cut from one field of view and shifted against each other, which a perceptual hash cannot see.

Each image is remembered by its corners and a binary description of the patch around each (BRIEF, unturned: a shift
turns nothing). Corners that look alike in two images vote for one shift; pairs with enough votes are compared pixel by
pixel where they would overlap. All of it depends on a corner's surroundings only, so what lies outside the overlap
does not matter, and the cost grows with the number of corners and not with its square. Of many images fewer corners
each are compared, so that memory stays within bounds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
from jaxtyping import Int32, Int64, UInt8
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

Grey = UInt8[np.ndarray, "_ _"]
Shift = tuple[int, int]

BLOCK_PX = 5  # over which a corner's strength is summed
FAINTEST = 2e-4  # strength below which a corner is the noise of a flat ground or a soft rim
APART_PX = 6  # no stronger corner within that many pixels of a corner
STRONGEST = 1000  # corners of an image kept; a PBC image has about 115, a BUSI image 710
FEWEST = 100  # likewise, however many images there are
CORNERS = 2_200_000  # of all images, which take about 0.4 GB to compare; PBC has 2.0 million
BORDER_PX = 18  # half a patch of 31 px and its blur: no description reaches over the edge
DIFFERING_BITS = 32  # of 256, between two views of one corner; JPEG saved anew, gain and shift change 7 in the middle
COMPARISONS = 8_000_000  # in each of four sorted orders; together they take 15 seconds
LEAST_REACH, MOST_REACH = 2, 16  # neighbours in a sorted order that a description is compared with
CELL_PX = 4  # within which votes for a shift are one
VOTES = 3  # two can be chance: round red cells look alike
SLACK_PX = 4  # by which the voted shift may be off
SMALLEST_FRACTION = 0.1  # of the smaller image


@dataclass(frozen=True)
class LocalFeatures:
    """The corners of one image, the strongest first; small, so that a process can send it."""

    descriptors: UInt8[np.ndarray, "k 32"]
    places: Int32[np.ndarray, "k 2"]  # x, y


NO_FEATURES = LocalFeatures(np.empty((0, 32), np.uint8), np.empty((0, 2), np.int32))


@dataclass(frozen=True)
class Overlap:
    first: int
    second: int
    shift_px: Shift  # x, y of the second image's corner in the first
    correlation: float  # of the pixels shared
    fraction: float  # of the smaller image that is shared


def local_features(image: Image.Image) -> LocalFeatures:
    """Empty for an image without corners, or too small for a patch."""
    grey = _grey(image)
    describe = cv2.ORB.create(nlevels=1, edgeThreshold=BORDER_PX)
    corners = [cv2.KeyPoint(float(x), float(y), 1.0, 0.0) for x, y in _corners(grey)]
    kept, descriptors = describe.compute(grey, corners)
    if not kept:
        return NO_FEATURES
    return LocalFeatures(descriptors, np.array([corner.pt for corner in kept]).astype(np.int32))


def _grey(image: Image.Image) -> Grey:
    return np.asarray(image.convert("L"))


def _corners(grey: Grey) -> Int64[np.ndarray, "k 2"]:
    """x, y of each place where the strength (Shi and Tomasi, 1994) is a peak."""
    strength = cv2.cornerMinEigenVal(grey, BLOCK_PX)
    around = np.ones((2 * APART_PX + 1, 2 * APART_PX + 1), np.uint8)
    peaks = (strength == cv2.dilate(strength, around)) & (strength > FAINTEST)
    y, x = np.nonzero(np.pad(peaks[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX], BORDER_PX))
    strongest = np.argsort(-strength[y, x], kind="stable")[:STRONGEST]
    return np.column_stack([x, y])[strongest]


def find_overlaps(
    features: Sequence[LocalFeatures], open_image: Callable[[int], Image.Image], min_correlation: float
) -> list[Overlap]:
    """The overlaps that link images into groups, sorted; those of the most votes, so n images of one field have n - 1.

    `open_image` gives the picture behind the features of that index.
    """
    groups, found = DisjointSet(range(len(features))), []
    for first, second, *shift in candidates(the_strongest(features)).tolist():
        if groups.connected(first, second):
            continue
        alignment = _aligned(_grey(open_image(first)), _grey(open_image(second)), (shift[0], shift[1]))
        overlap = Overlap(first, second, *alignment)
        if overlap.correlation >= min_correlation and overlap.fraction >= SMALLEST_FRACTION:
            groups.merge(first, second)
            found.append(overlap)
    return sorted(found, key=lambda overlap: (overlap.first, overlap.second))


def the_strongest(features: Sequence[LocalFeatures]) -> list[LocalFeatures]:
    """So few corners of each image that all of them together are at most CORNERS, but no fewer than FEWEST."""
    counts = np.array([len(one.places) for one in features])
    limits = range(STRONGEST, FEWEST, -10)
    limit = next((limit for limit in limits if np.minimum(counts, limit).sum() <= CORNERS), FEWEST)
    return [LocalFeatures(one.descriptors[:limit], one.places[:limit]) for one in features]


def candidates(features: Sequence[LocalFeatures]) -> Int64[np.ndarray, "c 4"]:
    """Pairs of images whose corners agree on a shift, the most votes first: first, second, shift in x and y.

    The shift is that with the most votes, to SLACK_PX.
    """
    owners = np.repeat(np.arange(len(features)), [len(one.places) for one in features])
    if not len(owners):
        return np.empty((0, 4), dtype=np.int64)
    alike = look_alikes(np.concatenate([one.descriptors for one in features]), owners)
    one, other = np.divmod(_of_pairs_that_share_several(alike, owners), len(owners))
    places = np.concatenate([one.places for one in features]).astype(np.int64)
    pair, shift, votes = _elect(owners[one] * len(features) + owners[other], places[one] - places[other])
    order = np.argsort(-votes, kind="stable")
    return np.column_stack([*np.divmod(pair, len(features)), shift])[order]


def look_alikes(descriptors: UInt8[np.ndarray, "k 32"], owners: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " m"]:
    """Corners of two images that look alike, each pair once: k times the first corner's index, plus the second's.

    Sorted by any 64 of their bits, like descriptions stand near each other (Charikar, 2002).
    """
    words, found = descriptors.view(np.uint64).T, []
    for word in words:
        order = np.argsort(word, kind="stable")
        ranked, ranked_owners = [other[order] for other in words], owners[order]
        for step in range(1, _reach(len(owners)) + 1):
            differing = sum((np.bitwise_count(bits[step:] ^ bits[:-step]) for bits in ranked), start=np.uint16(0))
            (near,) = np.nonzero((differing <= DIFFERING_BITS) & (ranked_owners[step:] != ranked_owners[:-step]))
            ends = order[near], order[near + step]
            found.append(np.minimum(*ends) * len(owners) + np.maximum(*ends))
    return np.unique(np.concatenate(found))


def _reach(corners: int) -> int:
    """How many neighbours in a sorted order a description is compared with: the more, the fewer there are."""
    return min(max(COMPARISONS // corners, LEAST_REACH), MOST_REACH)


def _of_pairs_that_share_several(
    alike: Int64[np.ndarray, " m"], owners: Int64[np.ndarray, " k"]
) -> Int64[np.ndarray, " n"]:
    """Without those that are too few between their two images: nearly all, as any two smears have a rim alike."""
    pairs = owners[alike // len(owners)] * (owners[-1] + 1) + owners[alike % len(owners)]
    _, pair_of, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    return alike[counts[pair_of] >= VOTES]


def _elect(
    pair: Int64[np.ndarray, " m"], shift: Int64[np.ndarray, "m 2"]
) -> tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, "c 2"], Int64[np.ndarray, " c"]]:
    """Pairs with enough votes in one cell: the pair, the middle of its fullest cell, the votes there.

    Four grids, half a cell apart, so that no shift lies on the edge of all its cells.
    """
    rows = np.concatenate([_full_cells(pair, shift, offset) for offset in product((0, CELL_PX // 2), repeat=2)])
    rows = rows[np.lexsort((-rows[:, 1], rows[:, 0]))]
    _, fullest = np.unique(rows[:, 0], return_index=True)
    return rows[fullest, 0], rows[fullest, 2:], rows[fullest, 1]


def _full_cells(
    pair: Int64[np.ndarray, " m"], shift: Int64[np.ndarray, "m 2"], offset: tuple[int, ...]
) -> Int64[np.ndarray, "c 4"]:
    """Cells of one grid with enough votes: the pair, the votes, the middle in x and y."""
    if not len(pair):
        return np.empty((0, 4), dtype=np.int64)
    cell = (shift + offset) // CELL_PX
    first = cell.min(axis=0)
    extent = (int(pair.max()) + 1, *(cell.max(axis=0) - first + 1).tolist())
    codes, votes = np.unique(np.ravel_multi_index((pair, *(cell - first).T), extent), return_counts=True)
    enough = votes >= VOTES
    pair_of, *place = np.unravel_index(codes[enough], extent)
    middle = (np.column_stack(place) + first) * CELL_PX - offset + CELL_PX // 2
    return np.column_stack([pair_of, votes[enough], middle])


def _aligned(first: Grey, second: Grey, near: Shift) -> tuple[Shift, float, float]:
    """The best shift near the given one, the correlation of the pixels shared, and their fraction of the smaller."""
    left, top, right, bottom = _shared(first, second, near)
    window = first[top:bottom, left:right]
    (x, y), inset = near, SLACK_PX
    template = second[top - y + inset : bottom - y - inset, left - x + inset : right - x - inset]
    _, correlation, _, (right_by, down_by) = cv2.minMaxLoc(cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED))
    shift = (x + right_by - inset, y + down_by - inset)
    left, top, right, bottom = _shared(first, second, shift)
    return shift, correlation, (right - left) * (bottom - top) / min(first.size, second.size)


def _shared(first: Grey, second: Grey, shift: Shift) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the overlap in the first image."""
    (x, y), (height, width), (other_height, other_width) = shift, first.shape, second.shape
    return max(0, x), max(0, y), min(width, other_width + x), min(height, other_height + y)
