"""The search for a shortcut: models that read one known place, and interventions that change that place alone."""

import numpy as np
import pytest
import torch

from pipeline.metrics.faithfulness import see
from pipeline.metrics.imputation import NOISE
from pipeline.metrics.trust.intervention import donors, free_of, neutralised, pasted, windows
from pipeline.metrics.trust.shortcut import (
    Places,
    Sample,
    control_of,
    focus,
    places_beside,
    pointing_hits,
    search,
    sway,
    tamper,
)

SIDE, IMAGES, CLASSES = 64, 24, 3
CORNER = (0, 0, 16, 16)
EVIDENCE = (24, 24, 40, 40)


def reader_of(box):
    """A model whose class is the channel that is brightest in the box, whatever is elsewhere."""
    top, left, bottom, right = box

    def predict(images):
        return (20 * images[:, :, top:bottom, left:right].mean((2, 3))).softmax(dim=1)

    return predict


def painted(box, evidence=EVIDENCE, images=IMAGES):
    """Noise whose box is bright in the channel of the image's class; classes take turns."""
    top, left, bottom, right = box
    pixels = 0.5 * torch.rand(images, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(images) % CLASSES
    pixels[torch.arange(images), classes, top:bottom, left:right] += 0.4
    masks = torch.zeros(images, SIDE, SIDE, dtype=torch.bool)
    masks[:, evidence[0] : evidence[2], evidence[1] : evidence[3]] = True
    return np.arange(images), pixels, masks, classes


def sample_of(predict, box, **changes):
    rows, pixels, masks, _ = painted(box, **changes)
    return Sample(rows, pixels, masks, see(predict, pixels, 7).probabilities)


def holds(outer, inner):
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


@pytest.mark.parametrize("tag", [(3, 3, 10, 10), (50, 12, 58, 20), (20, 55, 28, 63), (0, 29, 8, 37), (57, 57, 64, 64)])
def test_a_place_that_decides_is_found_wherever_it_lies_and_predictions_follow_it(tag):
    predict = reader_of(tag)
    sample = sample_of(predict, tag)
    places = search(predict, sample, seed=0, batch_size=16)
    assert holds(places.region, tag)
    found = tamper(predict, sample, places, seed=0, batch_size=16)
    assert found.followed.all()
    assert not found.followed_control.any()
    assert len(found.sample.rows) == IMAGES
    assert found.neutral.probabilities.max() < 0.75 < found.sample.probabilities.amax(dim=1).min()  # it told all


def test_of_a_model_that_reads_the_evidence_alone_nothing_follows():
    predict = reader_of(EVIDENCE)
    sample = sample_of(predict, EVIDENCE)
    found = tamper(predict, sample, search(predict, sample, 0, 16), 0, 16)
    assert not found.followed.any()
    assert not found.followed_control.any()
    assert torch.equal(found.neutral.predicted, sample.predicted)


def test_the_place_that_sways_more_is_found_of_two():
    weak, strong = (4, 4, 12, 12), (52, 52, 60, 60)
    rows, pixels, masks, classes = painted(strong)
    pixels[torch.arange(IMAGES), classes, 4:12, 4:12] += 0.4

    def predict(images):
        logits = 3 * images[..., 4:12, 4:12].mean((2, 3)) + 10 * images[..., 52:60, 52:60].mean((2, 3))
        return logits.softmax(dim=1)

    places = search(predict, Sample(rows, pixels, masks, predict(pixels)), 0, 16)
    assert holds(places.region, strong)
    assert not holds(places.control, weak)


def test_images_with_evidence_in_a_place_neither_take_part_nor_give():
    predict = reader_of((4, 4, 12, 12))
    sample = sample_of(predict, (4, 4, 12, 12))
    sample.evidence[:6, 15, 15] = True
    found = tamper(predict, sample, Places(CORNER, (0, 48, 16, 64)), 0, 16)
    assert set(found.sample.rows) == set(range(6, IMAGES))
    sample.evidence[6:12, 0, 50] = True
    assert set(tamper(predict, sample, Places(CORNER, (0, 48, 16, 64)), 0, 16).sample.rows) == set(range(12, IMAGES))
    sample.evidence[:, 0, 0] = True
    assert tamper(predict, sample, Places(CORNER, (0, 48, 16, 64)), 0, 16) is None


def test_a_model_of_one_class_has_no_donor_and_no_place():
    sample = sample_of(lambda images: torch.tensor([[0.8, 0.1, 0.1]]).expand(len(images), 3), CORNER)
    assert search(lambda images: sample.probabilities[: len(images)], sample, 0, 16) is None


def test_without_any_evidence_no_place_lies_beside_it():
    sample = sample_of(reader_of(CORNER), CORNER)
    sample.evidence[:] = False
    assert places_beside(sample.evidence) == []
    assert search(reader_of(CORNER), sample, 0, 16) is None


def test_places_beside_the_evidence_count_only_images_that_have_some():
    masks = torch.zeros(9, SIDE, SIDE, dtype=torch.bool)
    masks[:3, 24:40, 24:40] = True
    masks[0, :8] = True  # one of three: two thirds are free
    masks[1:3, :, :8] = True  # two of three
    boxes = places_beside(masks)
    assert (0, 48, 16, 64) in boxes
    assert (48, 0, 64, 16) not in boxes
    assert not any(holds(box, (30, 30, 34, 34)) for box in boxes)


def test_batches_change_nothing():
    predict = reader_of((2, 2, 20, 20))
    sample = sample_of(predict, (2, 2, 20, 20))
    others = sample.at(torch.arange(IMAGES).roll(1))
    together = sway(predict, sample, others, CORNER, 24)
    alone = [sway(predict, *(s.at(torch.tensor([i])) for s in (sample, others)), CORNER, 1) for i in range(IMAGES)]
    torch.testing.assert_close(torch.cat(alone), together)
    one_by_one = torch.cat([neutralised(image[None], CORNER) for image in sample.images])
    assert torch.equal(neutralised(sample.images, CORNER), one_by_one)


def test_equal_seeds_find_equal_things_and_another_seed_other_donors():
    predict = reader_of((2, 2, 10, 10))
    sample = sample_of(predict, (2, 2, 10, 10))
    one, again, other = (tamper(predict, sample, search(predict, sample, s, 16), s, 16) for s in (0, 0, 1))
    assert one.places == again.places
    assert torch.equal(one.neutral.images, again.neutral.images)
    assert torch.equal(one.donor_classes, again.donor_classes)
    assert not torch.equal(one.donor_classes, other.donor_classes)


def test_donors_are_allowed_and_of_another_class():
    classes, rows = torch.tensor([0, 0, 1, 1, 2, 2]), np.arange(10, 16)
    allowed = torch.tensor([True, False, True, False, False, False])
    assert donors(rows, classes, allowed, 0).tolist()[:4] == [2, 2, 0, 0]
    assert set(donors(rows, classes, allowed, 0).tolist()[4:]) <= {0, 2}
    assert donors(rows, classes, ~allowed & (classes == 0), 0).tolist() == [-1, -1, 1, 1, 1, 1]


def test_a_donor_stays_while_it_is_allowed():
    classes, rows = torch.arange(20) % 4, np.arange(20)
    before = donors(rows, classes, torch.ones(20, dtype=torch.bool), 3)
    allowed = torch.arange(20) != before[0]
    after = donors(rows, classes, allowed, 3)
    assert torch.equal(after[before != before[0]], before[before != before[0]])
    assert (after != before[0]).all()


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (70, 50), (16, 16)])
def test_windows_cover_the_image_and_stay_small(size):
    boxes = windows(*size)
    covered = torch.zeros(size, dtype=torch.int)
    for top, left, bottom, right in boxes:
        covered[top:bottom, left:right] += 1
        assert (bottom - top) * (right - left) <= 0.08 * size[0] * size[1]
    assert len(set(boxes)) == 49
    assert (covered > 0).all()


def test_interventions_keep_all_pixels_outside():
    _, images, _, _ = painted(CORNER)
    box = (8, 16, 24, 32)
    outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
    outside[8:24, 16:32] = False
    before, others = images.clone(), images.roll(1, dims=0)
    for changed in (neutralised(images, box), pasted(images, others, box)):
        assert torch.equal(changed[:, :, outside], images[:, :, outside])
        assert (changed != images)[:, :, ~outside].float().mean() > 0.99
    assert torch.equal(pasted(images, others, box)[:, :, ~outside], others[:, :, ~outside])
    assert torch.equal(images, before)


def test_a_neutral_place_continues_its_surroundings():
    images = torch.full((1, 3, SIDE, SIDE), 0.3)
    images[:, 0, 2:14, 2:14] = 1.0
    assert (neutralised(images, CORNER) - 0.3).abs().max() < 6 * NOISE


def test_free_means_not_even_touched():
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[0, 15, 15], masks[1, 16, 15] = True, True
    assert free_of(masks, CORNER).tolist() == [False, True]


@pytest.mark.parametrize(
    ("region", "control"),
    [
        ((0, 0, 16, 16), (0, 48, 16, 64)),  # mirrored
        ((8, 40, 24, 56), (8, 8, 24, 24)),
        ((0, 24, 16, 40), (0, 8, 16, 24)),  # its own mirror image, so the nearest beside it
    ],
)
def test_the_control_lies_where_the_mirror_shows_the_region(region, control):
    assert control_of(region, windows(SIDE, SIDE), SIDE) == control


def test_where_places_are_few_the_control_overlaps_as_little_as_it_can():
    places = [(0, 0, 16, 16), (0, 8, 16, 24), (8, 8, 24, 24)]
    assert control_of(places[0], places, SIDE) == places[2]
    assert control_of(places[0], places[:1], SIDE) == places[0]


def test_focus_by_hand_on_any_grid():
    coarse = torch.zeros(3, 4, 4)
    coarse[0, 0, 0], coarse[0, 3, 3] = 3.0, 1.0
    coarse[1], coarse[2] = 1.0, -1.0
    shares = focus({"coarse": coarse, "fine": torch.ones(3, 8, 8)}, CORNER, SIDE, SIDE)
    assert shares["coarse"].tolist() == pytest.approx([3 / 4, 1 / 16, 0])
    assert shares["fine"].tolist() == pytest.approx([1 / 16] * 3)
    half = focus({"coarse": coarse}, (8, 8, 24, 24), SIDE, SIDE)["coarse"]  # a quarter of the hot cell
    assert half[0].item() == pytest.approx(3 / 16)


def test_peaks_on_the_evidence_are_hits():
    masks = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    masks[:, 24:40, 24:40] = True
    maps = torch.zeros(2, 8, 8)
    maps[0, 3, 3], maps[1, 0, 0] = 1.0, 1.0
    assert pointing_hits({"gradcam": maps}, masks)["gradcam"].tolist() == [True, False]
