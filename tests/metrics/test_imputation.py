"""Noisy linear imputation: ROAD's system solved densely beside it, and what must stay as it is."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.metrics import imputation
from pipeline.metrics.faithfulness import Course, even_curves, imputed, saliency_ranks, see
from pipeline.metrics.imputation import noisy_linear

ROWS, COLUMNS = 6, 7


@pytest.fixture
def image() -> Tensor:
    return torch.rand(3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imputation, "NOISE", 0.0)


def by_hand(image: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Each missing pixel the weighted mean of its neighbours, as one dense system."""
    places = [tuple(place) for place in np.argwhere(gone)]
    system, right = np.zeros((len(places), len(places))), np.zeros((len(places), 3))
    for i, (row, column) in enumerate(places):
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other = (row + down, column + across)
                if (down, across) == (0, 0) or not (0 <= other[0] < ROWS and 0 <= other[1] < COLUMNS):
                    continue
                weight = 1 / 6 if 0 in (down, across) else 1 / 12
                system[i, i] += weight
                if gone[other]:
                    system[i, places.index(other)] -= weight
                else:
                    right[i] += weight * image[:, other[0], other[1]]
    filled = image.copy()
    for place, colour in zip(places, np.linalg.solve(system, right), strict=True):
        filled[:, place[0], place[1]] = colour
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_pixels_are_the_weighted_means_of_their_neighbours(image: Tensor, share: float, silent: None):
    gone = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) < share
    assert np.allclose(noisy_linear(image, gone[None])[0], by_hand(image.numpy(), gone.numpy()), atol=1e-5)


def test_pixels_that_are_left_are_untouched_and_those_gone_change(image: Tensor):
    gone = torch.rand(4, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) < 0.5
    filled = noisy_linear(image, gone)
    changed = (filled != image).any(dim=1)
    assert torch.equal(changed, gone)


def test_a_plane_picture_is_restored(silent: None):
    plain = torch.full((3, ROWS, COLUMNS), 0.4)
    gone = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    gone[0, 2, 3] = False
    assert torch.allclose(noisy_linear(plain, gone)[0], plain, atol=1e-6)


def test_with_nothing_left_the_mean_colour_takes_every_place(image: Tensor, silent: None):
    filled = noisy_linear(image, torch.ones(1, ROWS, COLUMNS, dtype=torch.bool))[0]
    assert torch.allclose(filled, image.mean((1, 2), keepdim=True).expand_as(image), atol=1e-6)


def test_with_nothing_gone_the_image_comes_back(image: Tensor):
    assert torch.equal(noisy_linear(image, torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool))[0], image)


def test_the_noise_follows_from_the_image_alone(image: Tensor):
    gone = torch.rand(2, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) < 0.5
    assert torch.equal(noisy_linear(image, gone)[1], noisy_linear(image, gone[1:])[0])


@pytest.mark.parametrize("inserting", [True, False])
def test_a_sparse_map_loses_exactly_the_asked_share_of_pixels(inserting: bool):
    images = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
    sparse = torch.zeros(1, 6, 6)
    sparse[0, 2, 3] = 1  # a percentile of this map is 0: it would take all pixels or none

    def counting(pictures: Tensor) -> Tensor:
        kept = (pictures == images).all(dim=1).double().mean((1, 2))
        return torch.stack([kept, 1 - kept], dim=1)

    ends = [see(counting, pixels, 8) for pixels in (images, noisy_linear(images[0], torch.ones(1, 6, 6).bool()))]
    start, finish = reversed(ends) if inserting else ends
    course = Course(
        start,
        finish,
        imputed(images, noisy_linear, inserting),
        saliency_ranks(sparse),
        torch.zeros(1, dtype=torch.long),
    )
    kept = even_curves(counting, course, 12, 5)[0]
    expected = np.linspace(0, 1, 13) if inserting else np.linspace(1, 0, 13)
    assert kept.tolist() == pytest.approx(expected.tolist())
