"""Integrated gradients: completeness, a polynomial by hand, and no trace left on the model."""

import pytest
import torch

from pipeline.explain.integrated_gradients import integrated_gradients
from pipeline.models.build import Classifier
from tests.explain.test_capture import traits, unusual
from tests.explain.tiny import TARGETS, build, draw_images


class Cubes(torch.nn.Module):
    """Logit 0 is the sum of cubed values, logit 1 their sum."""

    def forward(self, images):
        return torch.stack([(images**3).sum(dim=(1, 2, 3)), images.sum(dim=(1, 2, 3))], dim=1)


@pytest.mark.parametrize("target", [0, 1])
def test_of_a_sum_each_pixel_gets_its_own_term(target):
    """Two points integrate a cubic exactly, so the terms come out without an error of the rule."""
    classifier = Classifier(Cubes(), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = torch.rand(2, 3, 4, 4)
    found = integrated_gradients(classifier, images, torch.full((2,), target), steps=2)
    torch.testing.assert_close(found, (images ** (1 if target else 3)).sum(dim=1))


@pytest.mark.parametrize("key", ["vit", "distilled", "swin", "wide_swin_v2", "averaged_dinov3"])
def test_a_maps_sum_is_the_logit_less_that_of_black(key):
    classifier = build(key)
    images = draw_images(classifier)
    total = integrated_gradients(classifier, images, TARGETS, steps=64).sum(dim=(1, 2))
    with torch.no_grad():
        difference = (classifier(images) - classifier(0 * images)).gather(1, TARGETS[:, None])[:, 0]
    torch.testing.assert_close(total, difference, atol=5e-3, rtol=5e-3)


def test_black_pixels_get_nothing():
    classifier = build("vit")
    images = draw_images(classifier)
    images[:, :, :8] = 0
    assert integrated_gradients(classifier, images, TARGETS, steps=2)[:, :8].abs().max() == 0


def test_the_model_is_left_as_found():
    classifier = unusual(build("vit"))
    before = traits(classifier)
    integrated_gradients(classifier, draw_images(classifier), TARGETS, steps=2)
    assert traits(classifier) == before
