"""Maps made again: with explanations so simple that their similarity is known."""

import math

import numpy as np
import pytest
import torch

from pipeline.metrics.trust.stability import (
    NOISE,
    class_similarity,
    flip_similarity,
    noise_similarity,
    noisy,
    runner_up,
)

IMAGES = torch.rand(4, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
TARGETS = torch.tensor([0, 1, 2, 0])
ROWS = np.array([4, 9, 2, 7])


def explain(images: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """`channel` shows the target's colour, `grey` the image whatever the class, `fixed` and `flat` neither."""
    fixed = torch.arange(48.0).view(8, 6).expand(len(images), -1, -1)
    channel = images[torch.arange(len(images)), targets]
    return {"channel": channel, "grey": images.mean(1), "fixed": fixed, "flat": torch.zeros_like(fixed)}


MAPS = explain(IMAGES, TARGETS)


def test_the_runner_up_is_the_best_class_but_the_target():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-1.0, -1.0, -1.0], [-5.0, -4.0, -3.0]])
    assert runner_up(logits, torch.tensor([0, 2, 0, 2])).tolist() == [1, 0, 1, 1]


def test_a_method_that_does_not_see_the_class_gives_the_runner_up_the_same_map():
    logits = torch.eye(3)[TARGETS] + torch.tensor([0.1, 0.3, 0.2])
    found = class_similarity(explain, IMAGES, TARGETS, logits, MAPS)
    torch.testing.assert_close(found["grey"], torch.ones(4).double())
    assert (found["channel"].abs() < 0.5).all()
    assert found["flat"].isnan().all()


def test_a_method_that_follows_the_image_is_mirrored_with_it():
    found = flip_similarity(explain, IMAGES, TARGETS, MAPS)
    torch.testing.assert_close(found["channel"], torch.ones(4).double())
    assert (found["fixed"] < 1).all()
    assert found["flat"].isnan().all()


def test_a_fixed_map_mirrored_by_hand():
    """0, 1 in one row: mirrored back it is 1, 0, the reverse order."""
    maps = {"fixed": torch.tensor([[[0.0, 1.0]]])}
    found = flip_similarity(lambda images, targets: maps, torch.rand(1, 3, 2, 2), torch.tensor([0]), maps)
    assert found["fixed"].item() == pytest.approx(-1)


def test_faint_noise_leaves_a_map_nearly_as_it_was():
    found = noise_similarity(explain, IMAGES, TARGETS, MAPS, ROWS, seed=0)
    torch.testing.assert_close(found["fixed"], torch.ones(4).double())
    assert ((found["channel"] > 0.9) & (found["channel"] < 1)).all()


def test_noise_has_its_spread_depends_on_the_row_and_stays_in_range():
    grey = torch.full((4, 3, 50, 50), 0.5)
    together = noisy(grey, ROWS, seed=3)
    assert torch.equal(together[1:2], noisy(grey[:1], ROWS[1:2], seed=3))
    assert not torch.equal(together[0], noisy(grey, ROWS, seed=4)[0])
    assert (together - grey).std().item() == pytest.approx(NOISE, rel=0.03)
    assert abs((together - grey).mean().item()) < 0.001
    white = noisy(torch.ones(4, 3, 8, 8), ROWS, seed=3)
    assert white.max() == 1
    assert white.min() < 1


@pytest.mark.parametrize("check", [class_similarity, flip_similarity, noise_similarity])
def test_images_are_checked_each_for_itself(check):
    more = {class_similarity: (torch.eye(3)[TARGETS], MAPS), flip_similarity: (MAPS,), noise_similarity: (MAPS, ROWS)}

    def run(part: slice) -> torch.Tensor:
        arguments = [{k: v[part] for k, v in a.items()} if isinstance(a, dict) else a[part] for a in more[check]]
        seed = (5,) if check is noise_similarity else ()
        return check(explain, IMAGES[part], TARGETS[part], *arguments, *seed)["channel"]

    torch.testing.assert_close(run(slice(None)), torch.cat([run(slice(i, i + 1)) for i in range(4)]))


def test_what_has_no_runner_up_or_no_number_is_refused():
    with pytest.raises(ValueError, match="logits: one class has no runner-up"):
        runner_up(torch.rand(2, 1), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="logits: NaN or infinite"):
        runner_up(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="maps: NaN or infinite"):
        flip_similarity(explain, IMAGES, TARGETS, {"grey": MAPS["grey"] * math.nan})
