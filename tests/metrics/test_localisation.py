"""Localisation: small maps and masks whose scores are known by hand."""

import pytest
import torch

from pipeline.metrics.localisation import mask_fraction, mass_ratio, pointing_game

LEFT = torch.tensor([[[True, False], [True, False]]])


def test_the_peak_inside_the_mask_is_a_hit_and_outside_a_miss():
    maps = torch.tensor([[[0.0, 1.0], [3.0, 2.0]], [[0.0, 3.0], [2.0, 1.0]]])
    assert pointing_game(maps, LEFT.expand(2, 2, 2)).tolist() == [True, False]


def test_of_equal_peaks_the_first_in_reading_order_counts():
    maps = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert pointing_game(maps, LEFT.expand(2, 2, 2)).tolist() == [False, True]


def test_mass_counts_the_positive_part_only():
    maps = torch.tensor([[[1.0, 3.0], [-7.0, -9.0]]])
    assert mass_ratio(maps, LEFT).item() == pytest.approx(0.25)


def test_a_map_without_positive_attribution_puts_nothing_inside():
    assert mass_ratio(torch.tensor([[[0.0, -1.0], [-2.0, 0.0]]]), LEFT).tolist() == [0]


def test_a_flat_map_has_the_masks_own_share():
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1, :3] = True
    assert mask_fraction(mask).item() == pytest.approx(0.15)
    assert mass_ratio(torch.full((1, 4, 5), 0.3), mask).item() == pytest.approx(0.15)


def test_images_are_scored_each_for_itself():
    generator = torch.Generator().manual_seed(0)
    maps, masks = torch.randn(6, 5, 5, generator=generator), torch.rand(6, 5, 5, generator=generator) > 0.5
    for score in (pointing_game, mass_ratio):
        one_by_one = torch.cat([score(maps[i : i + 1], masks[i : i + 1]) for i in range(6)])
        assert torch.equal(score(maps, masks), one_by_one)
