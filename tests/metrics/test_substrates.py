"""Substrates: the pictures are what RISE's code makes, in pixel space."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from pipeline.errors import StudyError
from pipeline.metrics.substrates import (
    NAMES,
    SUBSTRATES,
    blur,
    mean,
    partner_positions,
    pictures,
    rise_kernel,
    zero,
)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 24, 20, generator=torch.Generator().manual_seed(0))


def test_the_kernel_is_the_one_of_rise():
    point = np.zeros((11, 11))
    point[5, 5] = 1
    assert np.allclose(rise_kernel(), gaussian_filter(point, 5), atol=1e-8)


def test_the_kernel_is_nearly_a_box():
    kernel = rise_kernel()
    assert kernel[5, 5].item() == pytest.approx(0.00883, abs=1e-5)
    assert kernel[0, 0].item() == pytest.approx(0.00774, abs=1e-5)
    assert kernel.sum().item() == pytest.approx(1, abs=1e-6)


def test_blur_is_a_reflecting_convolution_of_each_channel(images: torch.Tensor):
    channel = images[1, 2].numpy().astype(np.float64)
    expected = convolve(channel, rise_kernel().numpy().astype(np.float64), mode="mirror")
    assert np.allclose(blur(images)[1, 2], expected, atol=1e-6)


def test_blur_leaves_a_plain_picture_as_it_is():
    plain = torch.full((1, 3, 16, 16), 0.7)
    assert torch.allclose(blur(plain), plain, atol=1e-6)


def test_zero_is_black_and_mean_is_imagenets_colour(images: torch.Tensor):
    assert not zero(images).any()
    assert torch.equal(mean(images)[2, :, 5, 7], torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize("name", SUBSTRATES)
def test_every_substrate_is_a_picture_and_leaves_the_image_alone(name: str, images: torch.Tensor):
    before = images.clone()
    found = pictures(name, images)
    assert found.shape == images.shape
    assert 0 <= found.min() <= found.max() <= 1
    found.mul_(0.5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", SUBSTRATES)
def test_a_batch_gets_the_pictures_of_its_images(name: str, images: torch.Tensor):
    one_by_one = torch.cat([pictures(name, image[None]) for image in images])
    assert torch.allclose(pictures(name, images), one_by_one, atol=1e-6)


def test_an_unknown_substrate_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match=r"noise.*zero, mean, blur"):
        pictures("noise", torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("name", ["blur_20", "blur_40"])
def test_a_strong_blur_is_scipys_gaussian(name: str):
    images = torch.rand(1, 3, 56, 64, generator=torch.Generator().manual_seed(0))
    sigma = int(name.removeprefix("blur_")) * 56 / 224
    expected = gaussian_filter(images[0, 1].double().numpy(), sigma, mode="mirror", radius=round(3 * sigma))
    assert np.allclose(pictures(name, images)[0, 1], expected, atol=1e-5)


def test_a_strong_blur_removes_an_equal_share_at_every_size():
    small = torch.rand(1, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    large = small.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    left = [(pictures("blur_20", images).var() / images.var()).item() for images in (small, large)]
    assert left[0] == pytest.approx(left[1], rel=0.1)


def test_the_partner_is_the_next_image_of_another_class():
    assert partner_positions(classes := np.array([0, 0, 1, 1]), np.arange(4), classes).tolist() == [2, 2, 0, 0]
    assert partner_positions(classes := np.array([3, 3, 3]), np.arange(3), classes).tolist() == [1, 2, 0]


def test_another_image_needs_another_image(images: torch.Tensor):
    with pytest.raises(ValueError, match="no partner"):
        partner_positions(np.array([0]), np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match="partners"):
        pictures("another_image", images)
    assert torch.equal(pictures("another_image", images, images.flip(0)), images.flip(0))


@pytest.mark.parametrize("name", NAMES)
def test_every_named_substrate_has_pictures(name: str, images: torch.Tensor):
    found = pictures(name, images, images.flip(0))
    assert found.shape == images.shape
    assert 0 <= found.min() <= found.max() <= 1


def test_an_unknown_substrate_has_no_pictures(images: torch.Tensor):
    with pytest.raises(StudyError, match="another_image, noisy_linear"):
        pictures("noise", images)
