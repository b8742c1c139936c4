"""Similarity of maps: known by hand, and equal to scipy's and torchmetrics'."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pipeline import models  # noqa: F401  # first: it lets torchmetrics be imported on CPU-only machines
from pipeline.metrics.trust.similarity import compare, spearman, ssim

from torchmetrics.functional.image import structural_similarity_index_measure  # isort: skip


def draw(side: int, seed: int, levels: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, levels, (5, side, side + 3)) if levels else rng.random((5, side, side + 3))
    return torch.tensor(values, dtype=torch.float32)


def test_one_swap_of_neighbours_among_four_leaves_four_fifths():
    """1 - 6 * (1 + 1) / (4 * 15)."""
    one, other = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), torch.tensor([[[1.0, 3.0], [2.0, 400.0]]])
    assert spearman(one, other).item() == pytest.approx(0.8)


def test_rank_correlation_equals_scipys_ties_included():
    for levels in (0, 3):
        one, other = draw(6, 0, levels), draw(6, 1, levels) + draw(6, 0, levels)
        pairs = zip(one.flatten(1).numpy(), other.flatten(1).numpy(), strict=True)
        expected = [spearmanr(*pair).statistic for pair in pairs]
        np.testing.assert_allclose(spearman(one, other).numpy(), expected, rtol=1e-10, atol=1e-12)


def test_rank_correlation_sees_order_only():
    one = draw(6, 0)
    torch.testing.assert_close(spearman(one, torch.exp(5 * one) - 9), torch.ones(5).double())
    torch.testing.assert_close(spearman(one, -one), -torch.ones(5).double())


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0])
def test_a_flat_map_has_no_rank_correlation(value):
    flat = torch.full((2, 3, 3), value)
    other = torch.stack([torch.arange(9.0).view(3, 3), flat[0]])
    assert spearman(flat, other).isnan().all()


def test_structure_equals_torchmetrics():
    """Of maps that span [0, 1] already, where scaling them changes nothing."""
    one, other = draw(14, 0), 0.7 * draw(14, 0) + 0.3 * draw(14, 1)
    for maps in (one, other):
        maps[:, 3, 4], maps[:, 9, 9] = 0, 1
    expected = structural_similarity_index_measure(one[:, None], other[:, None], data_range=1.0, reduction="none")
    np.testing.assert_allclose(ssim(one, other).numpy(), expected.numpy(), atol=1e-5)


def test_structure_does_not_see_scale_and_offset():
    one, other = draw(12, 0), draw(12, 1)
    torch.testing.assert_close(ssim(one, 7 * one - 2), torch.ones(5).double())
    torch.testing.assert_close(ssim(one, other), ssim(3 * one + 1, other / 9))


def test_two_flat_maps_have_the_same_structure_and_one_is_unlike_a_map_with_any():
    flat = torch.full((5, 12, 15), -0.4)
    torch.testing.assert_close(ssim(flat, torch.zeros(5, 12, 15)), torch.ones(5).double())
    assert (ssim(flat, draw(12, 0)) < 0.05).all()


def test_a_map_too_small_for_the_window_is_refused():
    with pytest.raises(ValueError, match="maps: a side of 5 px is too short; upsample native grids first"):
        ssim(torch.rand(1, 5, 20), torch.rand(1, 5, 20))


@pytest.mark.parametrize("measure", [spearman, ssim])
def test_maps_are_compared_each_for_itself_and_by_method(measure):
    one, other = draw(12, 0), draw(12, 1)
    found = compare({"a": one, "b": other}, {"b": other, "a": other}, measure)
    assert found.keys() == {"a", "b"}
    one_by_one = torch.cat([measure(one[i : i + 1], other[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(found["a"], one_by_one)
    torch.testing.assert_close(found["b"], torch.ones(5).double())


@pytest.mark.parametrize("measure", [spearman, ssim])
def test_maps_that_are_no_numbers_or_of_another_size_are_refused(measure):
    bad = draw(12, 0)
    bad[2, 3, 4] = math.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(bad, draw(12, 1))
    with pytest.raises(ValueError, match="NaN or infinite"):
        measure(draw(12, 1), bad)
    with pytest.raises(Exception, match="others"):
        measure(draw(12, 0), draw(13, 0))
