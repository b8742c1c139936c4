"""Substrates: the pictures are what RISE's code makes, in pixel space."""

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from pipeline.errors import StudyError
from pipeline.metrics.substrates import SUBSTRATES, blur, get, mean, rise_kernel, zero


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
    pictures = get(name)(images)
    assert pictures.shape == images.shape
    assert 0 <= pictures.min() <= pictures.max() <= 1
    pictures.mul_(0.5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", SUBSTRATES)
def test_a_batch_gets_the_pictures_of_its_images(name: str, images: torch.Tensor):
    one_by_one = torch.cat([get(name)(image[None]) for image in images])
    assert torch.allclose(get(name)(images), one_by_one, atol=1e-6)


def test_an_unknown_substrate_is_refused_with_the_known_ones():
    with pytest.raises(StudyError, match=r"noise.*zero, mean, blur"):
        get("noise")
