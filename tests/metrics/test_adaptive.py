"""Adaptive curves: hand-made scores whose 224-step area is known, what they cost, and that images do not mix."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.metrics.adaptive import Curves, adaptive_curves, fixed_curves, interval_errors, joined
from pipeline.metrics.faithfulness import Course, auc, even_curves, exchanged, saliency_ranks, see

SIDE = 32
SHAPES = {
    "line": lambda share: share,
    "cliff": lambda share: torch.sigmoid(60 * (share - 0.37)),
    "bump": lambda share: torch.exp(-(((share - 0.61) / 0.08) ** 2)),
    "wave": lambda share: 0.5 + 0.4 * torch.sin(9 * share),
    "early": lambda share: 1 - torch.exp(-25 * share),
}


def predict_by(shape: str):
    """A score that is a known function of how much of the picture is white."""

    def predict(images: Tensor) -> Tensor:
        score = SHAPES[shape](images.double().mean((1, 2, 3)))
        return torch.stack([score, 1 - score], dim=1)

    return predict


def course_of(predict, count: int = 3, start: Tensor | None = None) -> Course:
    black = torch.zeros(count, 3, SIDE, SIDE) if start is None else start
    white = torch.ones_like(black)
    maps = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    seen = [see(predict, pixels, 64) for pixels in (black, white)]
    targets = torch.zeros(count, dtype=torch.long)
    return Course(*seen, exchanged(black, white), saliency_ranks(maps), targets)


@pytest.mark.parametrize(("shape", "most"), [("line", 32), ("cliff", 25), ("bump", 35), ("wave", 50), ("early", 25)])
def test_areas_are_those_of_all_steps_for_a_fraction_of_the_passes(shape: str, most: int):
    predict = predict_by(shape)
    course = course_of(predict)
    found, every = adaptive_curves(predict, course, 64), auc(even_curves(predict, course, 224, 64))
    assert (found.areas - every).abs().max() <= 0.005
    assert ((found.areas - every).abs() <= found.errors + 1e-6).all()
    assert found.passes.max() <= most


def test_a_flat_curve_costs_the_first_points_only():
    def flat(images: Tensor) -> Tensor:
        return torch.full((len(images), 2), 0.3)

    found = adaptive_curves(flat, course_of(flat), 64)
    assert found.passes.tolist() == [11] * 3


def test_a_rough_curve_is_asked_nearly_everywhere():
    def noisy(images: Tensor) -> Tensor:
        score = (images.double().sum((1, 2, 3)) * 12.9898).sin().mul(43758.5453).frac().abs()
        return torch.stack([score, 1 - score], dim=1)

    course = course_of(noisy, 1)
    found = adaptive_curves(noisy, course, 64)
    assert found.passes.item() > 150
    assert found.areas.item() == pytest.approx(auc(even_curves(noisy, course, 224, 64)).item(), abs=0.01)


def test_images_do_not_mix():
    start = (
        torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
        * torch.tensor([0, 0.2, 0.5, 0.9])[:, None, None, None]
    )
    predict = predict_by("cliff")
    together = course_of(predict, 4, start)
    found = adaptive_curves(predict, together, 7)
    for i in range(4):
        one = slice(i, i + 1)
        seen = [see(predict, end.pixels[one], 1) for end in (together.start, together.finish)]
        between = exchanged(together.start.pixels[one], together.finish.pixels[one])
        alone = adaptive_curves(predict, Course(*seen, between, together.ranks[one], together.targets[one]), 64)
        assert alone.passes.tolist() == found.passes[one].tolist()
        assert torch.allclose(alone.areas, found.areas[one], atol=1e-9)


def test_the_error_of_one_interval_by_hand():
    # one interval of width 1 and move 0.6, without a neighbour
    assert interval_errors(np.array([0.0, 1.0]), np.array([0.2, 0.8])) == pytest.approx([0.6 / 12**0.5])


def test_a_flat_interval_beside_a_cliff_is_not_trusted():
    errors = interval_errors(np.array([0, 0.25, 0.5, 0.75, 1]), np.array([0.0, 0, 0.8, 0.8, 0.8]))
    assert errors[0] == errors[2] == pytest.approx(0.7 * errors[1])
    assert errors[3] == 0


def test_padding_changes_no_area():
    predict = predict_by("cliff")
    course = course_of(predict, 1)
    both = joined([adaptive_curves(predict, course, 64), fixed_curves(predict, course, 224, 64)])
    assert both.fractions.shape == both.probabilities.shape
    assert np.trapezoid(both.probabilities, both.fractions) == pytest.approx(both.areas.numpy(), abs=1e-6)


def test_fixed_curves_have_no_error_and_name_their_passes():
    predict = predict_by("bump")
    found: Curves = fixed_curves(predict, course_of(predict), 28, 64)
    assert not found.errors.any()
    assert found.passes.tolist() == [len(found.fractions[0])] * 3


def test_a_score_that_is_no_number_is_refused():
    def broken(images: Tensor) -> Tensor:
        return torch.full((len(images), 2), torch.nan)

    with pytest.raises(StudyError, match="not a finite number"):
        adaptive_curves(broken, course_of(broken), 64)
