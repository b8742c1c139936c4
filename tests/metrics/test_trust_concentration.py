"""Scatter and border mass: maps whose numbers are known by hand, and the formulas written plainly."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as shannon

from pipeline.metrics.trust.concentration import border_mass, border_share, entropy, gini, half_mass_area

ALL = (gini, entropy, half_mass_area, border_mass)
SCATTER = (gini, entropy, half_mass_area)


def draw(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 6, 4, generator=torch.Generator().manual_seed(0))


def test_one_cell_with_everything_is_as_concentrated_as_can_be():
    maps = torch.zeros(1, 4, 5)
    maps[0, 1, 2] = 7
    assert gini(maps).item() == pytest.approx(1 - 1 / 20)
    assert entropy(maps).item() == pytest.approx(0)
    assert half_mass_area(maps).item() == pytest.approx(1 / 20)
    assert border_mass(maps).item() == 0


@pytest.mark.parametrize("value", [0.1, 0.0, -3.0])
def test_a_flat_map_is_as_scattered_as_can_be_and_so_is_a_blank_one(value):
    maps = torch.full((1, 4, 5), value)
    assert gini(maps).item() == pytest.approx(0)
    assert entropy(maps).item() == pytest.approx(1)
    assert half_mass_area(maps).item() == pytest.approx(1 / 2)
    assert border_mass(maps).item() == pytest.approx(border_share((4, 5)) if value > 0 else 0)


def test_a_map_of_four_cells_by_hand():
    """Shares 0, 1/4, 1/4, 1/2: Gini 1 - 2 (2.5 / 4 + 1.5 / 4 + 2 * 0.5 / 4) / 4; 1.5 bits of 2; the largest is half."""
    maps = torch.tensor([[[2.0, 1.0], [1.0, -5.0]]])
    assert gini(maps).item() == pytest.approx(3 / 8)
    assert entropy(maps).item() == pytest.approx(1.5 / 2)
    assert half_mass_area(maps).item() == pytest.approx(1 / 4)


def test_gini_is_half_the_relative_mean_difference_of_all_pairs():
    values = draw().clamp_min(0).flatten(1).double().numpy()
    pairs = np.abs(values[:, :, None] - values[:, None, :]).mean((1, 2))
    np.testing.assert_allclose(gini(draw()).numpy(), pairs / (2 * values.mean(1)), rtol=1e-10)


def test_entropy_equals_scipys_over_the_number_of_cells():
    values = draw().clamp_min(0).flatten(1).double().numpy()
    np.testing.assert_allclose(entropy(draw()).numpy(), shannon(values, axis=1, base=24), rtol=1e-10)


def test_half_the_mass_is_counted_cell_by_cell_from_the_largest():
    for map_, found in zip(draw(), half_mass_area(draw()), strict=True):
        falling = sorted(map_.clamp_min(0).flatten().double().tolist(), reverse=True)
        needed = next(k for k in range(1, 25) if sum(falling[:k]) >= sum(falling) / 2)
        assert found.item() == pytest.approx(needed / 24)


@pytest.mark.parametrize(("grid", "share"), [((7, 7), 24 / 49), ((3, 4), 10 / 12), ((2, 9), 1), ((1, 1), 1)])
def test_the_border_is_the_outermost_ring(grid, share):
    assert border_share(grid) == pytest.approx(share)
    assert border_mass(torch.ones(1, *grid)).item() == pytest.approx(share)


def test_border_mass_by_hand():
    maps = torch.full((1, 3, 3), -1.0)
    maps[0, 1, 1], maps[0, 0, 2], maps[0, 2, 1] = 6, 1, 1
    assert border_mass(maps).item() == pytest.approx(2 / 8)


def test_a_single_cell_is_no_scatter():
    maps = torch.ones(1, 1, 1)
    assert (gini(maps).item(), entropy(maps).item(), half_mass_area(maps).item()) == (0, 0, 1)


@pytest.mark.parametrize("score", SCATTER)
def test_scatter_depends_neither_on_scale_nor_on_place(score):
    maps = draw()
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    moved = 5 * maps.flatten(1)[:, order].view(5, 4, 6)
    torch.testing.assert_close(score(maps), score(moved), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("score", ALL)
def test_maps_are_scored_each_for_itself(score):
    maps = draw()
    torch.testing.assert_close(score(maps), torch.cat([score(maps[i : i + 1]) for i in range(5)]))


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_attributions_that_are_no_numbers_are_refused(score, bad):
    with pytest.raises(ValueError, match="attributions: NaN or infinite"):
        score(torch.tensor([[[0.0, bad]]]))
