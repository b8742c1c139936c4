"""Insertion and deletion: worlds known by hand, RISE's published loop as slow twin, properties, refused inputs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.metrics.faithfulness import (
    Course,
    auc,
    even_curves,
    exchanged,
    normalised_auc,
    pixel_counts,
    reversed_ranks,
    saliency_ranks,
    see,
    square_ranks,
    upsampled,
)
from tests.metrics.courses import perturbation_curves

SIDE = 6


def sums_pixels(images: Tensor) -> Tensor:
    """Two "probabilities": the mean of all pixels, and the rest."""
    score = images.flatten(1).mean(1)
    return torch.stack([score, 1 - score], dim=1)


def curves(
    start: Tensor, finish: Tensor, attributions: Tensor, targets: Tensor, steps: int, batch_size: int = 64,
    predict: Callable[[Tensor], Tensor] = sums_pixels,
) -> Tensor:  # fmt: skip
    ranks = saliency_ranks(upsampled(attributions, (start.shape[2], start.shape[3])))
    seen = [see(predict, pixels, batch_size) for pixels in (start, finish)]
    return perturbation_curves(predict, *seen, ranks, targets, steps, batch_size)


def crooked_net(classes: int = 4) -> Callable[[Tensor], Tensor]:
    """A fixed random network: nothing about it is additive."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(3 * SIDE * SIDE, 32, generator=generator)
    second = torch.randn(32, classes, generator=generator)
    return lambda images: (images.flatten(1) @ first).tanh().matmul(second).softmax(1)


def world(count: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, substrate, attributions on their native 3 x 3 grid, targets."""
    generator = torch.Generator().manual_seed(seed)
    images, substrate = torch.rand(2, count, 3, SIDE, SIDE, generator=generator)
    attributions = torch.randn(count, 3, 3, generator=generator)
    return images, substrate, attributions, torch.randint(4, (count,), generator=generator)


TWO_BY_TWO = torch.tensor([[0.4, 0.1], [0.2, 0.3]]).expand(1, 3, 2, 2)
ITS_ATTRIBUTION = TWO_BY_TWO[:, 0]
FIRST_CLASS = torch.tensor([0])


def test_deletion_of_four_pixels_by_hand():
    found = curves(TWO_BY_TWO, torch.zeros(1, 3, 2, 2), ITS_ATTRIBUTION, FIRST_CLASS, steps=4)
    assert torch.allclose(found[0], torch.tensor([1.0, 0.6, 0.3, 0.1, 0.0]) / 4)
    assert auc(found).item() == pytest.approx((0.5 + 0.6 + 0.3 + 0.1) / 16)


def test_insertion_of_four_pixels_by_hand():
    found = curves(torch.zeros(1, 3, 2, 2), TWO_BY_TWO, ITS_ATTRIBUTION, FIRST_CLASS, steps=4)
    assert torch.allclose(found[0], torch.tensor([0.0, 0.4, 0.7, 0.9, 1.0]) / 4)
    assert auc(found).item() == pytest.approx((0.4 + 0.7 + 0.9 + 0.5) / 16)


def test_the_second_class_has_its_own_curve():
    found = curves(TWO_BY_TWO, torch.zeros(1, 3, 2, 2), ITS_ATTRIBUTION, torch.tensor([1]), steps=4)
    assert torch.allclose(found[0], 1 - torch.tensor([1.0, 0.6, 0.3, 0.1, 0.0]) / 4)


@pytest.mark.parametrize(
    ("pixels", "steps", "counts"),
    [(4, 4, [0, 1, 2, 3, 4]), (4, 1, [0, 4]), (9, 4, [0, 3, 6, 9]), (10, 3, [0, 4, 8, 10]), (7, 7, [*range(8)])],
)
def test_the_last_step_takes_what_is_left(pixels: int, steps: int, counts: list[int]):
    assert pixel_counts(pixels, steps) == counts


def test_the_papers_steps_are_rises():
    assert np.diff(pixel_counts(224 * 224, 224)).tolist() == [224] * 224
    assert np.diff(pixel_counts(224 * 224, 28)).tolist() == [224 * 8] * 28


@given(st.integers(1, 5000), st.data())
@settings(max_examples=100, deadline=None)
def test_points_run_from_none_to_all_without_standing_still(pixels: int, data: st.DataObject):
    counts = pixel_counts(pixels, data.draw(st.integers(1, pixels)))
    assert (counts[0], counts[-1]) == (0, pixels)
    assert (np.diff(counts) > 0).all()


@pytest.mark.parametrize("steps", [0, 5])
def test_steps_outside_the_pixels_are_refused(steps: int):
    with pytest.raises(ValueError, match="4 pixels"):
        pixel_counts(4, steps)


def rise_run(predict: Callable, image: Tensor, substrate: Tensor, saliency: Tensor, target: int, step: int, mode: str):
    """CausalMetric.single_run of RISE's evaluation.py, slow and plain; its ties alone are put into reading order."""
    pixels = saliency.numel()
    num_steps = (pixels + step - 1) // step
    start, finish = (image, substrate) if mode == "del" else (substrate, image)
    start, finish = start.numpy().copy().reshape(3, pixels), finish.numpy().reshape(3, pixels)
    order = sorted(range(pixels), key=lambda pixel: (-saliency.flatten()[pixel].item(), pixel))
    scores = np.empty(num_steps + 1)
    for i in range(num_steps + 1):
        scores[i] = predict(torch.from_numpy(start).view(1, *image.shape))[0, target]
        if i < num_steps:
            coordinates = order[step * i : step * (i + 1)]
            start[:, coordinates] = finish[:, coordinates]
    return scores, (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (scores.shape[0] - 1)


@pytest.mark.parametrize("mode", ["ins", "del"])
@pytest.mark.parametrize("steps", [1, 4, 7, 12, 35, 36])
def test_curves_equal_rises_published_loop(mode: str, steps: int):
    images, substrate, attributions, targets = world()
    predict = crooked_net()
    start, finish = (images, substrate) if mode == "del" else (substrate, images)
    found = curves(start, finish, attributions, targets, steps, batch_size=11, predict=predict)
    step = -(-SIDE * SIDE // steps)
    for i, saliency in enumerate(upsampled(attributions, (SIDE, SIDE))):
        points, area = rise_run(predict, images[i], substrate[i], saliency, int(targets[i]), step, mode)
        assert np.allclose(found[i], points, atol=1e-6)
        assert auc(found)[i].item() == pytest.approx(area, abs=1e-6)


def test_a_constant_score_has_itself_as_area():
    images, substrate, attributions, _ = world()
    found = curves(
        images, substrate, attributions, torch.zeros(5, dtype=torch.long), 7,
        predict=lambda batch: torch.full((len(batch), 2), 0.37),
    )  # fmt: skip
    assert auc(found).tolist() == pytest.approx([0.37] * 5, abs=1e-7)


def test_on_an_additive_model_the_true_order_is_best_and_its_reverse_worst():
    images, _, _, _ = world()
    truth = images.mean(1)
    orders = [truth, torch.rand(truth.shape, generator=torch.Generator().manual_seed(3)), -truth]
    targets = torch.zeros(5, dtype=torch.long)
    insertion = [auc(curves(torch.zeros_like(images), images, order, targets, 12)) for order in orders]
    deletion = [auc(curves(images, torch.zeros_like(images), order, targets, 12)) for order in orders]
    assert (insertion[0] > insertion[1]).all()
    assert (insertion[1] > insertion[2]).all()
    assert (deletion[0] < deletion[1]).all()
    assert (deletion[1] < deletion[2]).all()


def test_random_maps_on_an_additive_model_score_half_on_average():
    images = torch.rand(400, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    maps = torch.rand(400, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    found = curves(torch.zeros_like(images), images, maps, torch.zeros(400, dtype=torch.long), 12)
    shares = auc(found) / images.flatten(1).mean(1)
    assert shares.mean().item() == pytest.approx(0.5, abs=4 * shares.std().item() / 20)


@pytest.mark.parametrize("steps", [4, 12, 36])
def test_insertion_is_deletion_of_the_reversed_ranking_read_backwards(steps: int):
    images, substrate, _, targets = world()
    order = torch.stack([torch.randperm(36, generator=torch.Generator().manual_seed(i)) for i in range(5)])
    maps = order.view(5, SIDE, SIDE).float()
    predict = crooked_net()
    insertion = curves(substrate, images, maps, targets, steps, predict=predict)
    deletion = curves(images, substrate, -maps, targets, steps, predict=predict)
    assert torch.allclose(insertion, deletion.flip(1), atol=1e-6)


def test_both_curves_share_their_ends():
    images, substrate, attributions, targets = world()
    predict = crooked_net()
    insertion = curves(substrate, images, attributions, targets, 7, predict=predict)
    deletion = curves(images, substrate, attributions, targets, 7, predict=predict)
    assert torch.equal(insertion[:, [0, -1]], deletion[:, [-1, 0]])


@pytest.mark.parametrize("batch_size", [1, 2, 13, 1000])
def test_batches_of_any_size_give_the_same_curves(batch_size: int):
    images, substrate, attributions, targets = world()
    found = curves(images, substrate, attributions, targets, 7, batch_size, crooked_net())
    assert torch.allclose(found, curves(images, substrate, attributions, targets, 7, 64, crooked_net()), atol=1e-6)


def test_no_batch_exceeds_its_size():
    sizes = []

    def predict(images: Tensor) -> Tensor:
        sizes.append(len(images))
        return sums_pixels(images)

    images, substrate, attributions, _ = world()
    curves(images, substrate, attributions, torch.zeros(5, dtype=torch.long), 36, 16, predict)
    assert max(sizes) <= 16
    assert sum(sizes) == 5 * 2 + 5 * 35


def test_an_image_alone_has_the_curve_it_has_in_a_batch():
    images, substrate, attributions, targets = world()
    together = curves(images, substrate, attributions, targets, 7, predict=crooked_net())
    for i in range(5):
        one = slice(i, i + 1)
        alone = curves(images[one], substrate[one], attributions[one], targets[one], 7, predict=crooked_net())
        assert torch.allclose(alone, together[one], atol=1e-6)


def test_nothing_given_is_changed():
    given = world()
    before = [tensor.clone() for tensor in given]
    curves(*given, 7, predict=crooked_net())
    assert all(torch.equal(old, new) for old, new in zip(before, given, strict=True))


def test_ties_keep_reading_order():
    assert saliency_ranks(torch.zeros(1, 2, 3)).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert saliency_ranks(torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])).tolist() == [[[2, 0], [1, 3]]]


def test_a_flat_map_deletes_row_by_row():
    images = torch.ones(1, 3, 2, 2)
    images[:, :, 1] = 0  # lower row black: it has nothing to lose
    found = curves(images, torch.zeros_like(images), torch.zeros(1, 1, 1), FIRST_CLASS, 4)
    assert found[0].tolist() == pytest.approx([0.5, 0.25, 0, 0, 0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_attribution_without_a_place_is_refused(value: float):
    maps = torch.zeros(1, 2, 2)
    maps[0, 1, 1] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        saliency_ranks(maps)


def test_cells_of_the_grid_spread_over_their_own_area():
    found = upsampled(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    assert found[0, 0].tolist() == pytest.approx([0, 0.25, 0.75, 1])


def test_squares_change_as_a_whole_the_most_relevant_first():
    maps = torch.tensor([[[0.0, 0, 1, 1], [0, 0, 1, 9], [2, 2, 0, 0], [2, 2, 0, 0]]])
    assert square_ranks(maps, 2)[0].tolist() == [[2, 2, 0, 0], [2, 2, 0, 0], [1, 1, 3, 3], [1, 1, 3, 3]]


def test_square_curves_take_one_square_a_step():
    image = torch.arange(4.0).view(1, 1, 2, 2).repeat_interleave(2, 2).repeat_interleave(2, 3).expand(1, 3, 4, 4) / 4
    black = torch.zeros_like(image)
    seen = [see(sums_pixels, pixels, 8) for pixels in (image, black)]
    course = Course(*seen, exchanged(image, black), square_ranks(image[:, 0], 2), FIRST_CLASS)
    assert even_curves(sums_pixels, course, 4, 8)[0].tolist() == pytest.approx([6 / 16, 3 / 16, 1 / 16, 0, 0])


@pytest.mark.parametrize("side", [0, 4, 7])
def test_squares_that_do_not_fill_the_image_are_refused(side: int):
    with pytest.raises(ValueError, match="do not fill"):
        square_ranks(torch.zeros(1, SIDE, SIDE), side)


def test_reversed_ranks_are_the_order_backwards_ties_included():
    maps = torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])
    assert reversed_ranks(saliency_ranks(maps)).tolist() == [[[1, 3], [2, 0]]]
    assert reversed_ranks(square_ranks(torch.rand(1, 4, 4), 2)).unique().tolist() == [0, 1, 2, 3]


def test_on_an_additive_model_least_relevant_first_mirrors_most_relevant_first():
    images, _, _, _ = world()
    ranks, black = saliency_ranks(images.mean(1)), torch.zeros_like(images)
    seen = [see(sums_pixels, pixels, 8) for pixels in (images, black)]
    first_class = torch.zeros(5, dtype=torch.long)
    morf, lerf = (
        auc(perturbation_curves(sums_pixels, *seen, order, first_class, 36, 64))
        for order in (ranks, reversed_ranks(ranks))
    )
    assert (lerf > morf).all()
    assert torch.allclose(lerf + morf, images.double().mean((1, 2, 3)), atol=1e-5)


def test_normalised_areas_by_hand():
    areas, full = torch.tensor([0.5, 0.5, 0.5]).double(), torch.tensor([0.9, 0.59, 0.2])
    found = normalised_auc(areas, full, torch.tensor([0.1, 0.5, 0.8]))
    assert found[0].item() == pytest.approx(0.5)
    assert found[1:].isnan().all()  # spans of 0.09 and below zero say too little


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_curves_of_the_cpu():
    given = world()
    predict = crooked_net()
    on_gpu = curves(*(tensor.cuda() for tensor in given), 7, predict=lambda images: predict(images.cpu()).cuda())
    assert torch.allclose(on_gpu.cpu(), curves(*given, 7, predict=predict), atol=1e-6)
