"""Norm outliers among the patch tokens."""

import pytest
import torch

from pipeline.metrics.trust.tokens import last_tokens, outlier_mass, outlier_tokens
from tests.explain.tiny import FAMILIES, build, draw_images


def test_a_norm_above_three_times_the_median_breaks_out_and_one_at_it_does_not():
    norms = torch.tensor([[[1.0, 1.0, 1.0], [1.0, 3.0, 3.01]]])
    tokens = norms[..., None] * torch.tensor([0.0, -1.0])
    assert outlier_tokens(tokens).tolist() == [[[False] * 3, [False, False, True]]]


def test_outliers_depend_neither_on_scale_nor_on_the_other_images():
    tokens = torch.randn(4, 5, 5, 1, generator=torch.Generator().manual_seed(0))
    tokens[2] *= 100
    found = outlier_tokens(tokens)
    assert found.any()
    assert torch.equal(found[2:3], outlier_tokens(tokens[2:3] / 7))


def test_tokens_that_are_all_zero_have_no_outlier():
    assert not outlier_tokens(torch.zeros(1, 3, 3, 2)).any()


def test_mass_on_outliers_by_hand_also_on_a_finer_map():
    outliers = torch.tensor([[[True, False], [False, False]]])
    maps = torch.tensor([[[2.0, 1.0], [1.0, -9.0]]])
    assert outlier_mass(maps, outliers).item() == pytest.approx(1 / 2)
    fine = torch.arange(16.0).view(1, 4, 4)  # the token covers 0 + 1 + 4 + 5 of 120
    assert outlier_mass(fine, outliers).item() == pytest.approx(10 / 120)
    assert outlier_mass(-fine, outliers).item() == 0


@pytest.mark.parametrize("key", FAMILIES)
def test_the_last_tokens_are_those_the_final_norm_reads(key):
    classifier = build(key)
    images, read = draw_images(classifier), []
    norm = classifier.backbone.fc_norm if key == "averaged_vit" else classifier.backbone.norm
    handle = norm.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    tokens = last_tokens(classifier, images)
    handle.remove()
    if key == "averaged_vit":  # its norm comes after the mean
        torch.testing.assert_close(tokens.mean((1, 2)), read[0])
    else:
        patches = read[0].flatten(1, -2)[:, getattr(classifier.backbone, "num_prefix_tokens", 0) :]
        assert torch.equal(tokens.flatten(1, 2), patches)
    assert not any(module._forward_hooks for module in classifier.modules())


def test_a_model_in_train_mode_is_refused():
    classifier = build("vit").train()
    with pytest.raises(ValueError, match=r"classifier: is in train mode; call \.eval\(\) first"):
        last_tokens(classifier, draw_images(classifier))


def test_tokens_and_maps_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="tokens: NaN or infinite"):
        outlier_tokens(torch.full((1, 2, 2, 3), torch.nan))
    with pytest.raises(ValueError, match="attributions: NaN or infinite"):
        outlier_mass(torch.full((1, 2, 2), torch.inf), torch.ones(1, 2, 2, dtype=torch.bool))
