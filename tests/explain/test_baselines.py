"""The maps that know nothing of the model."""

import numpy as np
import torch

from pipeline.explain.baselines import baseline_maps, centre_map, edge_maps, random_maps


def test_random_maps_do_not_depend_on_the_batch():
    together = random_maps(np.array([3, 8, 5]), (4, 6), seed=7)
    alone = random_maps(np.array([5]), (4, 6), seed=7)
    assert torch.equal(together[2], alone[0])


def test_random_maps_differ_between_rows_seeds_and_grids():
    first, second = random_maps(np.array([3, 8]), (4, 4), seed=7)
    assert not torch.equal(first, second)
    assert not torch.equal(first, random_maps(np.array([3]), (4, 4), seed=8)[0])
    assert not torch.equal(first.flatten()[:4], random_maps(np.array([3]), (8, 8), seed=7)[0].flatten()[:4])


def test_random_maps_are_uniform():
    values = random_maps(np.arange(200), (14, 14), seed=0).flatten()
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(values.var() - 1 / 12) < 0.002


def test_the_centre_is_a_symmetric_gaussian():
    found = centre_map((3, 4))
    assert torch.equal(found, found.flip(0))
    assert torch.equal(found, found.flip(1))
    # Cell middles lie 1/3 of the height and 3/8 of the width off the middle; sigma is 1/4 of each.
    torch.testing.assert_close(found[0, 0], torch.exp(torch.tensor(-((4 / 3) ** 2 + (3 / 2) ** 2) / 2)))


def test_a_vertical_step_is_an_edge_only_where_it_is():
    """Grey 0 | 1 between columns 3 and 4 of 8: Sobel gives 4 in both columns, so each 2 x 2 cell there has mean 2."""
    images = torch.zeros(1, 3, 8, 8)
    images[..., 4:] = 1
    found = edge_maps(images, (4, 4))[0]
    torch.testing.assert_close(found, torch.tensor([[0.0, 2.0, 2.0, 0.0]] * 4))


def test_the_frame_of_an_image_is_no_edge():
    torch.testing.assert_close(edge_maps(torch.full((2, 3, 8, 8), 0.7), (2, 4)), torch.zeros(2, 2, 4))


def test_edges_do_not_depend_on_direction():
    images = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(edge_maps(images.transpose(2, 3), (4, 4)), edge_maps(images, (4, 4)).transpose(1, 2))


def test_every_other_grid_gets_noise_of_its_own():
    maps = baseline_maps(torch.rand(2, 3, 16, 16), np.array([4, 9]), (2, 2), [(2, 2), (4, 4)], seed=0)
    assert {name: tuple(map_.shape) for name, map_ in maps.items()} == {
        "random": (2, 2, 2),
        "centre": (2, 2, 2),
        "edge": (2, 2, 2),
        "random_4x4": (2, 4, 4),
    }
