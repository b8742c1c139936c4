"""Localisation: small maps and masks whose scores are known by hand, and the same scores written plainly."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from pipeline.metrics.localisation import (
    average_precision,
    has_finding,
    mask_fraction,
    mass_over_chance,
    mass_ratio,
    pointing_game,
    rank_accuracy,
    size_strata,
    top_k_iou,
)

LEFT = torch.tensor([[[True, False], [True, False]]])
NEED_A_FINDING = (mass_over_chance, rank_accuracy, top_k_iou, average_precision)
SCORES = (pointing_game, mass_ratio, *NEED_A_FINDING)


def draw(count: int = 6, levels: int = 4, side: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with many ties, zeros and negative values among them, and masks of all sizes."""
    rng = np.random.default_rng(0)
    maps = torch.tensor(rng.integers(-1, levels, (count, side, side)), dtype=torch.float32)
    masks = torch.tensor(rng.random((count, side, side)) < np.linspace(0.05, 0.95, count)[:, None, None])
    masks[:, 0, 0] = True
    return maps, masks


def test_the_peak_inside_the_mask_is_a_hit_and_outside_a_miss():
    maps = torch.tensor([[[0.0, 1.0], [3.0, 2.0]], [[0.0, 3.0], [2.0, 1.0]]])
    assert pointing_game(maps, LEFT.expand(2, 2, 2)).tolist() == [True, False]


def test_of_equal_peaks_the_first_in_reading_order_counts():
    maps = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 1.0], [1.0, 1.0]]])
    assert pointing_game(maps, LEFT.expand(2, 2, 2)).tolist() == [False, True]


@pytest.mark.parametrize(("tolerance_px", "hit"), [(0, False), (4, False), (5, True), (6, True)])
def test_a_peak_may_miss_the_mask_by_the_tolerance_in_a_straight_line(tolerance_px, hit):
    maps, mask = torch.zeros(1, 9, 8), torch.zeros(1, 9, 8, dtype=torch.bool)
    maps[0, 1, 2], mask[0, 5, 5] = 1, True  # 4 rows and 3 columns apart: 5 px
    assert pointing_game(maps, mask, tolerance_px).item() is hit


def test_the_tolerance_equals_a_search_around_the_peak():
    maps, masks = draw()
    for tolerance_px in (0, 1, 2):
        for map_, mask, hit in zip(maps, masks, pointing_game(maps, masks, tolerance_px), strict=True):
            row, column = divmod(int(map_.argmax()), 7)
            distances = [math.dist((row, column), found) for found in mask.nonzero().tolist()]
            assert hit.item() is (min(distances) <= tolerance_px)


def test_mass_counts_the_positive_part_only():
    maps = torch.tensor([[[1.0, 3.0], [-7.0, -9.0]]])
    assert mass_ratio(maps, LEFT).item() == pytest.approx(0.25)


@pytest.mark.parametrize("score", [mass_ratio, mass_over_chance])
def test_a_map_without_positive_attribution_puts_nothing_inside(score):
    assert score(torch.tensor([[[0.0, -1.0], [-2.0, 0.0]]]), LEFT).tolist() == [0]
    assert score(torch.zeros(1, 2, 2), LEFT).tolist() == [0]


def test_all_mass_in_a_twentieth_of_the_image_is_twenty_times_chance():
    maps = torch.zeros(1, 4, 5)
    maps[0, 1, 2] = 0.3
    assert mass_over_chance(maps, maps > 0).item() == pytest.approx(20)


@pytest.mark.parametrize("value", [0.3, 0.0, -2.0])
def test_a_flat_map_has_the_masks_own_share(value):
    mask = torch.zeros(1, 4, 5, dtype=torch.bool)
    mask[0, 1, :3] = True
    flat = torch.full((1, 4, 5), value)
    assert mask_fraction(mask).item() == pytest.approx(0.15)
    assert rank_accuracy(flat, mask).item() == pytest.approx(0.15)
    assert average_precision(flat, mask).item() == pytest.approx(0.15)
    assert top_k_iou(flat, mask).item() == pytest.approx(0.15 / 1.85)
    assert value <= 0 or mass_ratio(flat, mask).item() == pytest.approx(0.15)


def test_the_mask_itself_is_the_perfect_map_and_its_negative_the_worst():
    _, masks = draw()
    for score in (mass_ratio, rank_accuracy, top_k_iou, average_precision):
        torch.testing.assert_close(score(masks.float(), masks), torch.ones(6).double())
    torch.testing.assert_close(rank_accuracy(-masks[:1].float(), masks[:1]), torch.zeros(1).double())


def test_two_of_the_three_largest_inside_give_two_thirds_and_an_iou_of_a_half():
    maps = torch.tensor([[[9.0, 8.0, 7.0], [-1.0, -2.0, -3.0]]])
    mask = torch.tensor([[[True, False, True], [False, False, True]]])
    assert rank_accuracy(maps, mask).item() == pytest.approx(2 / 3)
    assert top_k_iou(maps, mask).item() == pytest.approx(2 / 4)
    assert average_precision(maps, mask).item() == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)


def test_ties_for_the_last_place_count_by_their_share_inside():
    """One place is left for three tied pixels, one of them inside: a third of a hit beside the sure one."""
    maps = torch.tensor([[[5.0, 1.0], [1.0, 1.0]]])
    assert rank_accuracy(maps, LEFT).item() == pytest.approx((1 + 1 / 3) / 2)


def test_tied_ranks_are_the_mean_over_all_orders_of_the_ties():
    maps, masks = draw()
    rng = np.random.default_rng(1)
    for map_, mask, found in zip(maps, masks, rank_accuracy(maps, masks), strict=True):
        values, inside = map_.flatten().numpy(), mask.flatten().numpy()
        orders = [np.lexsort((rng.random(values.size), -values))[: inside.sum()] for _ in range(2000)]
        assert found.item() == pytest.approx(np.mean([inside[order].mean() for order in orders]), abs=0.02)


def test_average_precision_equals_scikit_learns_ties_included():
    for maps, masks in (draw(), draw(levels=1000)):
        pairs = zip(masks.flatten(1).numpy(), maps.flatten(1).numpy(), strict=True)
        expected = [average_precision_score(mask, values) for mask, values in pairs]
        np.testing.assert_allclose(average_precision(maps, masks).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("score", [pointing_game, rank_accuracy, top_k_iou, average_precision])
def test_ranks_do_not_see_the_scale(score):
    maps, masks = draw()
    assert torch.equal(score(maps, masks), score(torch.exp(3 * maps) - 100, masks))


@pytest.mark.parametrize("score", SCORES)
def test_images_are_scored_each_for_itself(score):
    maps, masks = draw()
    one_by_one = torch.cat([score(maps[i : i + 1], masks[i : i + 1]) for i in range(6)])
    assert torch.equal(score(maps, masks), one_by_one)


def test_strata_follow_the_findings_share_of_the_image():
    masks = torch.zeros(4, 20, 20, dtype=torch.bool)
    for mask, size in zip(masks, (9, 10, 39, 40), strict=True):  # of 400: 2.25 %, 2.5 %, 9.75 %, 10 %
        mask.view(-1)[:size] = True
    assert size_strata(masks) == ["small", "medium", "medium", "large"]


def test_images_without_a_finding_are_named_and_refused():
    masks = torch.stack([LEFT[0], torch.zeros(2, 2, dtype=torch.bool)])
    assert has_finding(masks).tolist() == [True, False]
    for score in NEED_A_FINDING:
        with pytest.raises(ValueError, match="masks: empty for image 1 of the batch"):
            score(torch.rand(2, 2, 2), masks)
    with pytest.raises(ValueError, match="masks: empty for image 1"):
        size_strata(masks)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_attributions_that_are_no_numbers_are_refused(score, bad):
    with pytest.raises(ValueError, match="attributions: NaN or infinite"):
        score(torch.tensor([[[0.0, bad], [1.0, 2.0]]]), LEFT)


@pytest.mark.parametrize("score", SCORES)
def test_a_mask_of_another_size_is_refused(score):
    with pytest.raises(Exception, match="masks"):
        score(torch.rand(1, 3, 2), LEFT)
