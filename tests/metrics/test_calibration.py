"""Temperature and calibration error: a set whose best temperature is known, and torchmetrics beside."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline import models  # noqa: F401  # first: it lets torchmetrics be imported on CPU-only machines
from pipeline.metrics.calibration import calibrated, expected_calibration_error, fit_temperature

from torchmetrics.functional.classification import multiclass_calibration_error  # isort: skip


def draw(count: int = 4000, true_temperature: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels drawn from their softmax at the temperature."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 2, (count, 4)), dtype=torch.float32)
    edges = (logits.double() / true_temperature).softmax(1).cumsum(1)
    labels = (torch.tensor(rng.random((count, 1))) > edges).sum(1).clamp(max=3)
    return logits, labels


def test_three_of_four_right_by_a_margin_of_one_is_best_at_one_over_log_three():
    """The probability of the larger logit, 1 / (1 + exp(-1 / T)), is then the accuracy, 3/4."""
    logits, labels = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1])
    assert fit_temperature(logits, labels) == pytest.approx(1 / math.log(3), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_drew_the_labels_is_found(temperature):
    assert fit_temperature(*draw(true_temperature=temperature)) == pytest.approx(temperature, rel=0.06)


def test_no_other_temperature_fits_better():
    logits, labels = draw(300, 2.0)
    loss = {
        scale: functional.cross_entropy(logits.double() / scale, labels).item()
        for scale in (*np.geomspace(0.05, 20, 400), fit_temperature(logits, labels))
    }
    assert loss[fit_temperature(logits, labels)] == min(loss.values())


def test_logits_that_are_twice_as_large_need_twice_the_temperature():
    logits, labels = draw(300, 2.0)
    assert fit_temperature(2 * logits, labels) == pytest.approx(2 * fit_temperature(logits, labels), rel=1e-4)


def test_without_a_single_error_the_coldest_temperature_is_taken_and_without_a_hit_the_hottest():
    logits = torch.eye(3)
    assert fit_temperature(logits, torch.arange(3)) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(logits, torch.tensor([1, 2, 0])) == pytest.approx(20, rel=1e-3)


def test_flat_logits_have_a_temperature_all_the_same():
    assert 0.05 <= fit_temperature(torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])) <= 20


def test_calibrated_probabilities_by_hand():
    predict = calibrated(lambda images: torch.tensor([[math.log(9.0), 0.0]]), 2.0)
    torch.testing.assert_close(predict(torch.zeros(1, 3, 2, 2)), torch.tensor([[0.75, 0.25]]))


def test_calibration_keeps_the_predictions_and_lowers_the_error():
    logits, labels = draw(true_temperature=3.0)
    after = calibrated(lambda images: logits, fit_temperature(logits, labels))(torch.zeros(len(logits), 3, 1, 1))
    assert torch.equal(after.argmax(1), logits.argmax(1))
    assert expected_calibration_error(after, labels) < 0.2 * expected_calibration_error(logits.softmax(1), labels)


def test_calibration_error_by_hand():
    """Two bins: .9 sure and half right, two images; .6 sure and right, one image."""
    probabilities = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.6, 0.4]])
    found = expected_calibration_error(probabilities, torch.tensor([0, 0, 0]))
    assert found == pytest.approx((2 * 0.4 + 1 * 0.4) / 3, abs=1e-7)


def test_calibration_error_equals_torchmetrics():
    logits, labels = draw(500, 2.0)
    probabilities = logits.softmax(1)
    expected = multiclass_calibration_error(probabilities, labels, num_classes=4, n_bins=15, norm="l1")
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected.item(), abs=1e-6)


def test_full_confidence_is_in_the_last_bin():
    assert expected_calibration_error(torch.eye(2), torch.tensor([0, 0])) == pytest.approx(0.5)


@pytest.mark.parametrize("score", [fit_temperature, expected_calibration_error])
def test_no_numbers_and_no_images_are_refused(score):
    with pytest.raises(ValueError, match="NaN or infinite"):
        score(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="needs at least one image"):
        score(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=r"temperature: .* is not positive"):
        calibrated(lambda images: images, temperature)
