"""Fields, coverage and noise."""

import numpy as np
import pytest

from pipeline.data.phantom.shapes import (
    Blob,
    blob_distance,
    canvas_of,
    capsule_distance,
    coverage,
    disc_coverage,
    smooth_line,
    smooth_noise,
    stamp_tag,
    union,
    window,
)


@pytest.mark.parametrize("width", [90, 180, 360])
def test_a_disc_covers_its_area_at_any_width(width: int) -> None:
    canvas = canvas_of(width, (360, 363))
    covered = coverage(blob_distance(canvas, Blob(180.0, 180.0, 60.0)), 0.9, canvas.pixel)
    assert covered.sum() * canvas.pixel**2 == pytest.approx(np.pi * 60**2, rel=0.01)


def test_stretch_and_turn_keep_the_area() -> None:
    canvas = canvas_of(360, (360, 363))
    inside = blob_distance(canvas, Blob(180.0, 180.0, 50.0, stretch=2.0, angle=0.7)) < 0
    assert inside.sum() == pytest.approx(np.pi * 50**2, rel=0.01)


def test_the_distance_to_a_capsule_is_exact() -> None:
    canvas = canvas_of(10, (10, 10))
    distance = capsule_distance(canvas, (2.5, 4.5), (6.5, 4.5), 1.0)
    assert distance[4, 2] == -1
    assert distance[4, 4] == -1
    assert distance[7, 4] == 2
    assert distance[4, 9] == 2


def test_a_union_holds_what_either_holds() -> None:
    canvas = canvas_of(60, (60, 60))
    one, other = blob_distance(canvas, Blob(20.0, 30.0, 10.0)), blob_distance(canvas, Blob(42.0, 30.0, 10.0))
    assert (union([one, other], 1.0) <= np.minimum(one, other)).all()


def test_many_discs_at_once_equal_one_after_another() -> None:
    canvas = canvas_of(60, (120, 120))
    rng = np.random.default_rng(0)
    centres, radii, strengths = rng.uniform(-5, 125, (30, 2)), rng.uniform(3, 6, 30), rng.uniform(0.5, 1, 30)
    expected = np.zeros(canvas.shape)
    for (x, y), radius, strength in zip(centres, radii, strengths, strict=True):
        distance = np.hypot(canvas.x[None, :] - x, canvas.y[:, None] - y) - radius
        expected = np.maximum(expected, strength * np.clip(0.5 - distance / canvas.pixel, 0, 1))
    np.testing.assert_allclose(disc_coverage(canvas, centres, radii, strengths), expected, atol=1e-12)


def test_a_window_draws_what_the_whole_canvas_draws() -> None:
    canvas = canvas_of(120, (360, 363))
    at, local = window(canvas, 100.0, 40.0, 70.0)
    blob = Blob(100.0, 40.0, 30.0, waves=((3, 0.1, 0.5),))
    discs = np.array([[100.0, 40.0], [60.0, 5.0]]), np.array([8.0, 4.0]), np.ones(2)
    np.testing.assert_array_equal(blob_distance(local, blob), blob_distance(canvas, blob)[at])
    np.testing.assert_allclose(disc_coverage(local, *discs), disc_coverage(canvas, *discs)[at], atol=1e-12)


def test_noise_has_mean_zero_and_unit_spread() -> None:
    canvas = canvas_of(500, (500, 500))
    noise = smooth_noise(np.random.default_rng(0), canvas, (5.0, 8.0))
    line = smooth_line(np.random.default_rng(0), canvas, 2.0)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert line.std() == pytest.approx(1, abs=0.15)


def test_the_same_noise_is_seen_at_any_width() -> None:
    fine, coarse = canvas_of(360, (360, 360)), canvas_of(120, (360, 360))
    noises = [smooth_noise(np.random.default_rng(3), canvas, (20.0, 30.0)) for canvas in (fine, coarse)]
    np.testing.assert_allclose(noises[0][1::3, 1::3], noises[1], atol=1e-9)


def test_a_tag_is_a_tenth_of_the_width_and_marked() -> None:
    canvas = canvas_of(120, (360, 363))
    image, labels = stamp_tag(canvas, np.zeros((121, 120, 3)), np.ones((121, 120), np.uint8), 0.0)
    assert (labels == 129).sum() == 12 * 12
    assert ((labels == 129) == (image[..., 0] > 0)).all()
