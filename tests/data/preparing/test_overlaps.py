"""Images of one field of view, in worlds where every shift is known."""

from collections.abc import Iterable, Sequence
from io import BytesIO
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet

from pipeline.data.phantom.archive import Recipe, original_of, render
from pipeline.data.preparing import overlaps
from pipeline.data.preparing.overlaps import Overlap, candidates, find_overlaps, local_features, look_alikes
from pipeline.params import CellPhantomParams
from tests.data.sets import encoded, noise

Box = tuple[int, int, int, int]


def field(seed: int, width: int = 240, height: int = 240) -> Image.Image:
    """A field of view full of blots."""
    return Image.fromarray(noise(seed, height // 8, width // 8)).resize((width, height), Image.Resampling.BICUBIC)


def crops(seed: int, *boxes: Box) -> list[Image.Image]:
    return [field(seed).crop(box) for box in boxes]


def photographed(image: Image.Image, quality: int, gain: float = 1.0) -> Image.Image:
    return Image.open(BytesIO(encoded(image.point(lambda value: round(gain * value)), "JPEG", quality=quality)))


def found(images: Sequence[Image.Image], min_correlation: float = 0.98) -> list[Overlap]:
    return find_overlaps([local_features(image) for image in images], images.__getitem__, min_correlation)


def voted(images: Iterable[Image.Image]) -> list[list[int]]:
    """Pairs whose pixels are compared."""
    return candidates([local_features(image) for image in images])[:, :2].tolist()


def groups(links: Iterable[Overlap], count: int) -> set[frozenset[int]]:
    linked = DisjointSet(range(count))
    for link in links:
        linked.merge(link.first, link.second)
    return set(map(frozenset, linked.subsets()))


def test_a_shifted_crop_is_found_with_its_shift_and_the_part_shared() -> None:
    (overlap,) = found(crops(0, (0, 40, 120, 160), (30, 20, 150, 140)))
    assert (overlap.first, overlap.second, overlap.shift_px) == (0, 1, (30, -20))
    assert overlap.fraction == 90 * 100 / 120**2
    assert overlap.correlation == pytest.approx(1, abs=1e-5)


def test_a_crop_within_another_image_is_shared_whole() -> None:
    (overlap,) = found(crops(0, (0, 0, 240, 200), (70, 50, 170, 160)))
    assert (overlap.shift_px, overlap.fraction) == ((70, 50), 1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(75, 95), st.floats(0.9, 1.1))
def test_neither_compression_nor_gain_hides_a_shift(x: int, y: int, quality: int, gain: float) -> None:
    first, second = crops(1, (45, 45, 195, 195), (45 + x, 45 + y, 195 + x, 195 + y))
    (overlap,) = found([photographed(first, 85), photographed(second, quality, gain)], 0.95)
    assert (overlap.shift_px, overlap.fraction) == ((x, y), (150 - abs(x)) * (150 - abs(y)) / 150**2)


def test_the_correlation_is_that_of_the_pixels_shared() -> None:
    images = [photographed(image, 30) for image in crops(2, (0, 0, 160, 160), (11, 5, 171, 165))]
    (overlap,) = found(images, 0.5)
    first, second = (np.asarray(image.convert("L"), dtype=float) for image in images)
    expected = np.corrcoef(first[5:, 11:].ravel(), second[:-5, :-11].ravel())[0, 1]
    assert overlap.correlation == pytest.approx(expected, abs=2e-3)


def test_a_corner_depends_on_its_surroundings_only() -> None:
    whole, part = (local_features(image) for image in crops(3, (0, 0, 240, 240), (50, 70, 190, 200)))
    described = {tuple(place): bits.tobytes() for place, bits in zip(whole.places, whole.descriptors, strict=True)}
    inside = {place for place in described if 68 <= place[0] < 172 and 88 <= place[1] < 182}  # BORDER_PX off the cuts
    assert len(inside) > 10
    assert {(x + 50, y + 70): bits.tobytes() for (x, y), bits in zip(part.places, part.descriptors, strict=True)} == {
        place: described[place] for place in inside
    }


def test_images_without_a_common_part_have_no_overlap() -> None:
    assert found([field(seed) for seed in range(20)], 0.5) == []
    assert found(crops(4, (0, 0, 120, 240), (120, 0, 240, 240)), 0.5) == []


@pytest.mark.parametrize("side", [16, 40, 200])
def test_flat_images_have_no_corners(side: int) -> None:
    flat = [Image.new("RGB", (side, side), colour) for colour in ("white", "white", "black")]
    assert [len(local_features(image).places) for image in flat] == [0, 0, 0]
    assert found(flat, 0.0) == []


def test_images_too_small_for_a_patch_and_no_images_at_all_have_no_overlap() -> None:
    assert found([field(0, 16, 16), field(0, 16, 16), field(0, 400, 16)]) == []
    assert found([]) == []


def test_an_image_of_noise_keeps_its_strongest_corners_only() -> None:
    assert len(local_features(Image.fromarray(noise(0, 800, 800))).places) == overlaps.STRONGEST


def test_an_overlap_of_less_than_a_tenth_does_not_count() -> None:
    whole = field(5, 400, 400)
    images = [whole.crop((0, 0, 240, 240)), whole.crop((170, 170, 400, 400))]
    assert voted(images) == [[0, 1]]
    assert found(images) == []


def test_a_pair_alike_in_one_half_only_does_not_count() -> None:
    image, half = field(6), field(6)
    half.paste(field(7).crop((0, 0, 240, 120)))
    assert voted([image, half]) == [[0, 1]]
    assert found([image, half]) == []
    assert len(found([image, half], 0.3)) == 1


def test_a_row_of_fields_is_linked_end_to_end() -> None:
    links = found(crops(8, *((step, 0, step + 100, 240) for step in range(0, 141, 35))))
    assert [(link.first, link.second, link.shift_px) for link in links] == [(n, n + 1, (35, 0)) for n in range(4)]


def test_equal_images_are_linked_by_one_overlap_fewer_than_there_are() -> None:
    links = found([field(9)] * 6 + [field(10)])
    assert groups(links, 7) == {frozenset(range(6)), frozenset({6})}
    assert len(links) == 5
    assert {(link.shift_px, link.fraction) for link in links} == {((0, 0), 1.0)}


def test_the_order_of_the_images_only_renumbers_what_is_found() -> None:
    images = [crop for seed in range(8) for crop in crops(seed, (0, 0, 150, 150), (9 * seed, 20, 150 + 9 * seed, 170))]
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    renumbered = found([images[index] for index in order])
    assert {
        frozenset({(order[link.first], (0, 0)), (order[link.second], link.shift_px)})
        if order[link.first] < order[link.second]
        else frozenset({(order[link.second], (0, 0)), (order[link.first], tuple(-part for part in link.shift_px))})
        for link in renumbered
    } == {frozenset({(link.first, (0, 0)), (link.second, link.shift_px)}) for link in found(images)}


def test_phantom_cells_are_linked_with_their_near_copies_only() -> None:
    params = CellPhantomParams(
        images_per_class=24,
        width_px=120,
        near_copy_fraction=0.25,
        label_conflicts=0,
        confuse=0.4,
        shortcut_fraction=0.0,
        second_batch_fraction=0.0,
    )
    recipe, cells = Recipe("pbc", params, 0), range(params.images_per_class)
    originals = [original_of(recipe, "neutrophil", index) for index in cells]
    links = found([Image.fromarray(render(recipe, "neutrophil", index).image) for index in cells], 0.9)
    assert groups(links, len(cells)) == {
        frozenset(index for index in cells if originals[index] == original) for original in set(originals)
    }


def test_threads_change_nothing() -> None:
    images = [photographed(image, 80) for seed in range(4) for image in crops(seed, (0, 0, 180, 180), (7, 9, 187, 189))]
    threads, results = cv2.getNumThreads(), []
    for number in (1, 4):
        cv2.setNumThreads(number)
        results.append(found(images))
    cv2.setNumThreads(threads)
    assert results[0] == results[1]
    assert len(results[0]) == 4


@given(st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 255), max_size=40)), min_size=1, max_size=12))
def test_few_descriptions_are_compared_all_with_all(flips: list[tuple[int, set[int]]]) -> None:
    """Each flips some bits of one description, and belongs to one of three images."""
    flips = sorted(flips, key=lambda one: one[0])
    bits = np.array([[bit in flipped for bit in range(256)] for _, flipped in flips])
    owners = np.array([owner for owner, _ in flips], dtype=np.int64)
    expected = [
        (one, other)
        for one, other in combinations(range(len(flips)), 2)
        if owners[one] != owners[other] and len(flips[one][1] ^ flips[other][1]) <= overlaps.DIFFERING_BITS
    ]
    alike = look_alikes(np.packbits(bits, axis=1), owners)
    assert list(zip(*np.divmod(alike, len(flips)), strict=True)) == expected


def test_the_pairs_found_grow_with_the_corners_and_not_with_their_square() -> None:
    """Of k corners that all look alike, k (k - 1) / 2 pairs do."""
    found = {k: len(look_alikes(np.zeros((k, 32), np.uint8), np.arange(k))) for k in (10, 1_000, 10_000)}
    assert found[10] == 10 * 9 // 2
    assert found[1_000] < 1_000 * overlaps.MOST_REACH
    assert found[10_000] < 11 * found[1_000]


def test_of_millions_of_corners_each_meets_its_next_two_and_all_images_are_linked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlaps, "COMPARISONS", 0)  # as if there were so many
    images = [field(11, 120, 120)] * 40
    assert len(voted(images)) == 2 * 40 - 3
    assert groups(found(images), 40) == {frozenset(range(40))}


def test_of_many_images_the_strongest_corners_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    features = [local_features(Image.fromarray(noise(seed, 400, 400))) for seed in range(3)] + [overlaps.NO_FEATURES]
    counts = [len(one.places) for one in features]
    monkeypatch.setattr(overlaps, "CORNERS", 3 * 250)
    kept = overlaps.the_strongest(features)
    assert min(counts[:3]) > 250
    assert [len(one.places) for one in kept] == [250, 250, 250, 0]
    monkeypatch.setattr(overlaps, "CORNERS", 0)
    assert [len(one.places) for one in overlaps.the_strongest(features)] == [overlaps.FEWEST] * 3 + [0]
    monkeypatch.setattr(overlaps, "CORNERS", sum(counts))
    assert [len(one.places) for one in overlaps.the_strongest(features)] == counts
    monkeypatch.setattr(overlaps, "STRONGEST", 250)
    alone = local_features(Image.fromarray(noise(0, 400, 400)))
    assert (kept[0].places == alone.places).all()
    assert (kept[0].descriptors == alone.descriptors).all()


def test_few_corners_find_what_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [crop for seed in range(6) for crop in crops(seed, (0, 0, 200, 200), (30, 25, 230, 225))]
    every = found(images)
    monkeypatch.setattr(overlaps, "CORNERS", 0)
    assert found(images) == every
    assert len(every) == 6
