"""The maps that know nothing of the model."""

import numpy as np
import pytest
import torch

from pipeline.explain.baselines import (
    baseline_maps,
    centre_map,
    edge_maps,
    oracle_maps,
    random_maps,
    swapped_partners,
)


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


def test_the_images_own_size_among_the_grids_gives_random_pixels():
    maps = baseline_maps(torch.rand(2, 3, 16, 24), np.array([4, 9]), (2, 3), [(2, 3), (16, 24)], seed=0)
    assert torch.equal(maps["random_16x24"], random_maps(np.array([4, 9]), (16, 24), seed=0))


def test_an_oracle_cell_is_its_share_inside_the_mask():
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 1:3, 1:] = True
    expected = torch.tensor([[0.25, 0.5], [0.25, 0.5]])
    torch.testing.assert_close(oracle_maps(masks, (2, 2)), torch.stack([expected, torch.zeros(2, 2)]))
    assert torch.equal(oracle_maps(masks, (4, 4)), masks.float())


def test_an_oracle_keeps_the_masks_area_on_every_grid_that_divides_the_image():
    masks = torch.rand(3, 12, 24, generator=torch.Generator().manual_seed(0)) > 0.7
    for grid in ((3, 4), (6, 6), (1, 1)):
        torch.testing.assert_close(oracle_maps(masks, grid).mean((1, 2)), masks.float().mean((1, 2)))


def swap(classes: list[int], seed: int = 0) -> np.ndarray:
    return swapped_partners(np.arange(10, 10 + len(classes)), np.array(classes), seed)


@pytest.mark.parametrize("classes", [[0, 1], [0, 0, 1, 1], [2, 0, 1], [0, 1, 2, 1, 0, 2, 0, 1], [3, 3, 3, 0, 1, 2]])
def test_every_partner_is_of_another_class_and_every_map_is_given_once(classes):
    partners = swap(classes)
    assert sorted(partners) == list(range(len(classes)))
    assert all(classes[partner] != own for partner, own in zip(partners, classes, strict=True))


@pytest.mark.parametrize(("classes", "shared"), [([0, 0, 0, 1], 2), ([0, 1, 1, 1, 1, 1, 2], 3), ([4, 4, 4], 3)])
def test_a_class_of_more_than_half_shares_its_maps_as_seldom_as_can_be_and_never_with_oneself(classes, shared):
    partners = swap(classes)
    assert sorted(partners) == list(range(len(classes)))
    assert all(partners != np.arange(len(classes)))
    assert sum(classes[partner] == own for partner, own in zip(partners, classes, strict=True)) == shared


def test_partners_depend_on_the_seed_and_not_on_the_order_of_the_images():
    rows, classes = np.arange(40), np.arange(40) % 3
    partners = swapped_partners(rows, classes, seed=5)
    order = np.random.default_rng(0).permutation(40)
    again = swapped_partners(rows[order], classes[order], seed=5)
    assert np.array_equal(rows[order][again], partners[order])
    assert not np.array_equal(partners, swapped_partners(rows, classes, seed=6))


@pytest.mark.parametrize("rows", [[7], [], [7, 8, 7]])
def test_one_image_has_nobody_to_swap_with(rows):
    with pytest.raises(ValueError, match="rows: maps can be swapped between two images or more, each named once"):
        swapped_partners(np.array(rows, dtype=np.int64), np.zeros(len(rows), dtype=np.int64), seed=0)
