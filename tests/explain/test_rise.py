"""RISE on worlds whose answer is known, and its masks."""

import pytest
import torch

from pipeline.explain import rise as module
from pipeline.explain.rise import rise
from pipeline.models.build import Classifier
from tests.explain.tiny import TARGETS, build, draw_images

IMAGES = torch.rand(2, 3, 35, 49, generator=torch.Generator().manual_seed(0))


class Constant(torch.nn.Module):
    def forward(self, images):
        return torch.zeros(len(images), 4)


class Corner(torch.nn.Module):
    """Class 0 is probable where the first 7 x 7 pixels are bright."""

    def forward(self, images):
        logit = 20 * (images[:, :, :7, :7].mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([logit, -logit], dim=1)


def world(backbone):
    return Classifier(backbone, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def draw_masks(count, height=35, width=49):
    generator = torch.Generator().manual_seed(0)
    return torch.stack([module._mask(generator, height, width) for _ in range(count)])


def test_masks_show_half_of_every_place_softly():
    masks = draw_masks(3000)
    assert masks.shape == (3000, 35, 49)
    assert 0 <= masks.min() < masks.max() <= 1
    assert ((masks > 0) & (masks < 1)).any()
    assert (masks.mean(dim=0) - 0.5).abs().max() < 0.05


def test_a_model_that_does_not_look_gives_its_probability_everywhere():
    found = rise(world(Constant()), IMAGES, torch.tensor([0, 1]), masks=2000)
    assert (found - 0.25).abs().max() < 0.03


def test_the_place_that_counts_is_the_warmest():
    images = torch.ones(1, 3, 35, 49)
    found = rise(world(Corner()), images, torch.tensor([0]), masks=300)[0]
    assert found[:7, :7].mean() > 1.3 * found[14:, 14:].mean()


def test_it_is_the_mean_of_masks_weighted_by_the_probability():
    """Written again from the paper's equation 6, one mask at a time."""
    classifier = build("vit")
    image, target = draw_images(classifier)[:1], TARGETS[:1]
    generator, total = module._generator(image[0]), torch.zeros(32, 32)
    for _ in range(5):
        mask = module._mask(generator, 32, 32)
        total += classifier(image * mask).softmax(dim=1)[0, target[0]].detach() * mask
    torch.testing.assert_close(rise(classifier, image, target, masks=5)[0], total / (5 * 0.5))


@pytest.mark.parametrize("size", [(224, 224), (32, 48), (5, 9)])
def test_masks_fill_any_size(size):
    assert draw_masks(3, *size).shape == (3, *size)


def test_each_image_has_masks_of_its_own_wherever_it_stands():
    classifier = world(Corner())
    both = rise(classifier, IMAGES, torch.tensor([0, 0]), masks=4)
    turned = rise(classifier, IMAGES.flip(0), torch.tensor([0, 0]), masks=4)
    assert torch.equal(both.flip(0), turned)
    assert not torch.allclose(both[0], both[1])
