"""Measures of heatmaps: means and paired leads with the intervals of `statistics`, signed so that more is better."""

import numpy as np
import pytest

from pipeline.promotion.explanations import lead_of_heatmaps, measured_heatmaps
from pipeline.promotion.measurement import NOTHING, Resampling, measurement
from pipeline.statistics import mean_interval, share_interval, sign_interval
from tests.promotion.worlds import made_evidence

DRAWS = Resampling(seed=5, resamples=300)
OWN, OTHER = [0.5, 0.7, 0.9, 0.6], [0.4, 0.4, 0.8, 0.7]


def test_a_measure_is_the_mean_over_the_images_that_have_it():
    lines = made_evidence({"gradcam": {"insertion_gain": [*OWN, float("nan")]}})
    expected = mean_interval(np.array(OWN), 5, 300)
    assert measured_heatmaps(lines, "insertion_gain", "gradcam", DRAWS) == measurement(expected, 4)


def test_the_pointing_game_is_a_share():
    lines = made_evidence({"gradcam": {"pointing_game": [1.0, 0.0, 1.0, 1.0]}})
    assert measured_heatmaps(lines, "pointing_game", "gradcam", DRAWS) == measurement(share_interval(0.75, 4), 4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_lead_is_the_mean_difference_image_by_image(sign):
    lines = made_evidence({"gradcam": {"deletion_auc": OWN}, "edge": {"deletion_auc": OTHER}})
    expected = mean_interval(sign * (np.array(OWN) - OTHER), 5, 300)
    found = lead_of_heatmaps(lines, "deletion_auc", "gradcam", "edge", sign, DRAWS)
    assert (found.value, found.low, found.high) == pytest.approx(expected)


def test_only_images_that_both_were_measured_on_count():
    lines = made_evidence({"gradcam": {"mass_ratio": OWN}, "centre": {"mass_ratio": [0.1, float("nan"), 0.1, 0.1]}})
    found = lead_of_heatmaps(lines, "mass_ratio", "gradcam", "centre", 1, DRAWS)
    assert (found.value, found.images) == (pytest.approx(np.mean([0.4, 0.8, 0.5])), 3)


def test_a_gain_is_its_own_lead_over_the_random_map():
    lines = made_evidence({"gradcam": {"insertion_gain": OWN}, "random_8x8": {"insertion_gain": [float("nan")] * 4}})
    lead = lead_of_heatmaps(lines, "insertion_gain", "gradcam", "random_8x8", 1, DRAWS)
    assert lead == measured_heatmaps(lines, "insertion_gain", "gradcam", DRAWS)


def test_hits_against_a_maps_hits_are_paired_shares():
    lines = made_evidence({"gradcam": {"pointing_game": [1.0, 1, 0, 1]}, "random": {"pointing_game": [0.0, 1, 1, 0]}})
    expected = sign_interval(np.array([1.0, 0, -1, 1]))
    assert lead_of_heatmaps(lines, "pointing_game", "gradcam", "random", 1, DRAWS) == measurement(expected, 4)


def test_hits_against_chance_are_a_share_less_what_a_blind_guess_gets():
    lines = made_evidence({"gradcam": {"pointing_game": [1.0, 1, 0, 1], "chance": [0.1, 0.2, 0.1, 0.2]}})
    found = lead_of_heatmaps(lines, "pointing_game", "gradcam", "chance", 1, DRAWS)
    assert (found.value, found.low, found.high) == pytest.approx(np.subtract(share_interval(0.75, 4), 0.15))


def test_mass_against_chance_is_a_mean_difference():
    lines = made_evidence({"gradcam": {"mass_ratio": OWN, "chance": [0.1, 0.2, 0.1, 0.2]}})
    expected = mean_interval(np.subtract(OWN, [0.1, 0.2, 0.1, 0.2]), 5, 300)
    found = lead_of_heatmaps(lines, "mass_ratio", "gradcam", "chance", 1, DRAWS)
    assert (found.value, found.low, found.high) == pytest.approx(expected)


@pytest.mark.parametrize("baseline", ["edge", "chance"])
def test_images_without_masks_measure_nothing(baseline):
    nothing = {"pointing_game": [float("nan")] * 2, "chance": [float("nan")] * 2}
    lines = made_evidence({"gradcam": nothing, "edge": nothing})
    assert lead_of_heatmaps(lines, "pointing_game", "gradcam", baseline, 1, DRAWS) == NOTHING
    assert measured_heatmaps(lines, "pointing_game", "gradcam", DRAWS) == NOTHING
