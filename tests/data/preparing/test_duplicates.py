"""Near-duplicates, against all pairs compared one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.preparing.duplicates import close_pairs, linked_groups, perceptual_hash
from tests.data.sets import noise


def groups_by_loops(hashes: list[int], distance: int) -> list[int]:
    groups = list(range(len(hashes)))
    for first in range(len(hashes)):
        for second in range(first):
            if (hashes[first] ^ hashes[second]).bit_count() <= distance:
                old, new = groups[first], groups[second]
                groups = [new if group == old else group for group in groups]
    names = list(dict.fromkeys(groups))
    return [names.index(group) for group in groups]


def groups_of(hashes: list[int], distance: int) -> list[int]:
    pairs = close_pairs(np.array(hashes, dtype=np.uint64), distance)
    return linked_groups(len(hashes), [(first, second) for first, second, _ in pairs.tolist()]).tolist()


@given(st.lists(st.integers(0, 2**9 - 1), min_size=1, max_size=60), st.integers(0, 9))
def test_groups_equal_those_found_pair_by_pair(hashes: list[int], distance: int) -> None:
    assert groups_of(hashes, distance) == groups_by_loops(hashes, distance)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=12), st.sets(st.integers(0, 63), max_size=12))
def test_no_pair_is_missed_wherever_the_bits_lie_that_differ(hashes: list[int], flipped: set[int]) -> None:
    changed = hashes[0] ^ sum(1 << bit for bit in flipped)
    assert groups_of([*hashes, changed], len(flipped))[-1] == 0


def test_pairs_tell_their_distance_and_equal_hashes_are_linked_to_the_first() -> None:
    pairs = close_pairs(np.array([0b111, 0b0, 0b111, 0b1, 0b111], dtype=np.uint64), 2)
    assert sorted(pairs.tolist()) == [[0, 2, 0], [0, 3, 2], [0, 4, 0], [1, 3, 1]]


def test_a_chain_of_small_distances_is_one_group() -> None:
    assert groups_of([0b0, 0b1111, 0b11, 0xFF << 40], 2) == [0, 0, 0, 1]


def test_of_many_equal_images_only_the_first_is_compared() -> None:
    hashes = np.array([0] * 20_000 + [1], dtype=np.uint64)  # of which all pairs are 200 million
    pairs = close_pairs(hashes, 8)
    assert pairs[:-1].tolist() == [[0, copy, 0] for copy in range(1, 20_000)]
    assert pairs[-1].tolist() == [0, 20_000, 1]


def test_the_hash_survives_gain_and_size_but_tells_pictures_apart() -> None:
    picture = Image.fromarray(noise(0, 8, 8)).resize((200, 160), Image.Resampling.BICUBIC)
    smaller = picture.resize((100, 80)).point(lambda value: int(0.9 * value))
    other = Image.fromarray(noise(1, 8, 8)).resize((200, 160), Image.Resampling.BICUBIC)
    assert (perceptual_hash(picture) ^ perceptual_hash(smaller)).bit_count() <= 4
    assert (perceptual_hash(picture) ^ perceptual_hash(other)).bit_count() > 10


def test_the_hash_is_the_one_worked_out_from_its_definition() -> None:
    pixels = np.asarray(Image.fromarray(noise(3)).convert("L"), dtype=float)  # 32 x 32 already
    waves = np.cos(np.pi / 32 * np.outer(np.arange(8), np.arange(32) + 0.5))
    low = waves @ pixels @ waves.T
    bits = "".join("1" if value > np.median(low) else "0" for value in low.ravel())
    assert perceptual_hash(Image.fromarray(noise(3))) == int(bits, 2)
