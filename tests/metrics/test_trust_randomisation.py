"""Parameter randomisation: which weights go when, and that all come back."""

from itertools import chain

import pytest
import torch

from pipeline.explain import METHODS, explain_batch
from pipeline.explain.public import DEFAULTS
from pipeline.metrics.trust.randomisation import randomisation_stages, randomised, randomised_similarity
from pipeline.metrics.trust.similarity import spearman
from pipeline.models.build import Classifier
from pipeline.params import MethodParams
from tests.explain.tiny import FAMILIES, TARGETS, build, draw_images

pytestmark = pytest.mark.slow


def weights(classifier: Classifier) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in classifier.backbone.named_parameters()}


def changed(classifier: Classifier, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in classifier.backbone.named_parameters() if not torch.equal(value, before[name])}


def spread(classifier: Classifier) -> Classifier:
    """Every tensor takes many values, as after training, so that new draws are seen in each."""
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))
    return classifier


@pytest.mark.parametrize("key", FAMILIES)
def test_every_parameter_has_one_stage_from_the_head_down(key):
    backbone = build(key).backbone
    stages = randomisation_stages(backbone)
    names = list(stages)
    assert (names[0], names[-1]) == ("head", "embedding")
    assert names[1:-1] == sorted(names[1:-1], reverse=True)
    assert sorted(chain.from_iterable(stages.values())) == sorted(name for name, _ in backbone.named_parameters())
    assert all(stages.values())


def test_what_stands_around_the_blocks_goes_with_the_head_the_next_block_or_the_embedding():
    stages = randomisation_stages(build("distilled").backbone)
    top = {"norm.weight", "norm.bias", "head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert set(stages["head"]) == top
    patches = {"cls_token", "dist_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert set(stages["embedding"]) == patches
    swin = randomisation_stages(build("swin").backbone)
    assert "layers.1.downsample.reduction.weight" in swin["layers.1.blocks.0"]
    assert {name.split(".")[0] for name in swin["embedding"]} == {"patch_embed"}


@pytest.mark.parametrize("key", ["vit", "distilled", "swin"])
def test_a_cascade_adds_stage_to_stage_and_leaves_the_model_as_it_was(key):
    classifier = spread(build(key))
    before, gone = weights(classifier), set()
    stages = randomisation_stages(classifier.backbone)
    with randomised(classifier, seed=1) as names:
        for name in names:
            gone |= set(stages[name])
            assert changed(classifier, before) == gone
    assert gone == set(before)
    assert not changed(classifier, before)


def test_independent_stages_are_random_one_at_a_time_with_the_cascades_draws():
    classifier = spread(build("vit"))
    before, stages = weights(classifier), randomisation_stages(build("vit").backbone)
    with randomised(classifier, seed=1, independent=True) as names:
        for name in names:
            assert changed(classifier, before) == set(stages[name])
            alone = weights(classifier)
    with randomised(classifier, seed=1) as names:
        last = [weights(classifier) for _ in names][-1]
    assert all(torch.equal(alone[name], last[name]) for name in stages["embedding"])


def test_the_model_comes_back_after_an_error_and_when_the_stages_are_left_early():
    classifier = spread(build("swin"))
    before = weights(classifier)

    def fail(images, targets):
        assert changed(classifier, before)
        raise KeyError("in the middle")

    with pytest.raises(KeyError, match="in the middle"):
        randomised_similarity(classifier, fail, draw_images(classifier), TARGETS, {}, {}, seed=0)
    assert not changed(classifier, before)
    with randomised(classifier, seed=0) as names:
        next(names)
        assert changed(classifier, before)
    assert not changed(classifier, before)


def test_draws_keep_each_tensors_mean_and_spread_and_touch_no_other_randomness():
    classifier = spread(build("vit"))
    name, state = "blocks.2.mlp.fc1.weight", torch.get_rng_state()
    before = weights(classifier)[name]
    with randomised(classifier, seed=1) as names:
        for _ in names:
            now = weights(classifier)[name]
    assert now.std().item() == pytest.approx(before.std().item(), rel=0.1)
    assert now.mean().item() == pytest.approx(before.mean().item(), abs=0.02)
    assert abs(torch.corrcoef(torch.stack([now.flatten(), before.flatten()]))[0, 1]) < 0.1
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_decide_the_draws():
    classifier = spread(build("vit"))
    drawn = []
    for seed in (1, 1, 2):
        with randomised(classifier, seed) as names:
            next(names)
            drawn.append(weights(classifier)["head.weight"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("key", ["vit", "swin"])
def test_maps_of_the_study_change_and_a_map_of_the_image_does_not(key):
    classifier = build(key)
    images = draw_images(classifier)
    settings = MethodParams(**DEFAULTS | {"rise_masks": 60, "integrated_gradients_steps": 4})

    def explain(images, targets):
        return explain_batch(classifier, images, targets, list(METHODS), settings) | {"grey": images.mean(1)}

    before = explain(images, TARGETS)
    measures = {"spearman": spearman}
    found = randomised_similarity(classifier, explain, images, TARGETS, before, measures, seed=0)
    assert list(found) == list(randomisation_stages(classifier.backbone))
    for stage in found.values():
        torch.testing.assert_close(stage["spearman"]["grey"], torch.ones(3).double())
    for method in METHODS:
        most = 0.99 if method == "rise" else 0.9  # few masks show mostly themselves
        assert (found["embedding"]["spearman"][method].nan_to_num() < most).all()
    assert torch.equal(explain(images, TARGETS)["gradcam"], before["gradcam"])
