"""LeGrad against its definition, layer by layer and head by head."""

import pytest
import torch

from pipeline.explain.legrad import legrad
from tests.explain.test_attention import over_all_tokens
from tests.explain.test_capture import traits, unusual
from tests.explain.tiny import FAMILIES, TARGETS, build, captured_of, draw_images

from pipeline.models.family import family_of  # isort: skip


def layer_score_gradient(classifier, image, target, block):
    """ds_l / dA_l [window, head, token, token] with everything behind block l taken away; for one image."""
    backbone, seen = classifier.backbone, {}
    attention = backbone.get_submodule(f"{block}.attn")
    attention.fused_attn = False
    hooks = [
        attention.attn_drop.register_forward_hook(lambda m, i, out: seen.update(attention=out)),
        backbone.get_submodule(block).register_forward_hook(lambda m, i, out: seen.update(tokens=out)),
    ]
    classifier(image[None])
    for hook in hooks:
        hook.remove()
    score = backbone.forward_head(backbone.norm(seen["tokens"]))[0, target]
    return torch.autograd.grad(score, seen["attention"])[0]


@pytest.mark.parametrize("key", FAMILIES)
def test_it_averages_what_each_layers_attention_would_add(key):
    classifier = build(key)
    images, family = draw_images(classifier), family_of(classifier.backbone)
    blocks = [name.removesuffix(".attn") for name in family.attention]
    blocks = blocks[2:] if "swin" in key else blocks  # the head fits the last of two stages
    layers = []
    for block, place in zip(blocks, family.windows[-len(blocks) :], strict=True):
        gradient = layer_score_gradient(classifier, images[1], int(TARGETS[1]), block).clamp(min=0)
        queries = place.size[0] * place.size[1]
        layers.append(over_all_tokens(gradient.mean(dim=1), place).sum(dim=0) / queries)
    expected = torch.stack(layers).mean(dim=0)[family.num_prefix_tokens :]
    torch.testing.assert_close(legrad(classifier, images, TARGETS)[1].flatten(), expected, rtol=1e-3, atol=1e-7)


def test_the_model_is_left_as_found():
    classifier = unusual(build("swin"))
    before = traits(classifier)
    legrad(classifier, draw_images(classifier), TARGETS)
    assert traits(classifier) == before


def test_in_the_last_layer_it_is_the_gradient_of_the_logit_itself():
    captured = captured_of("averaged_vit")
    classifier = build("averaged_vit")
    gradient = layer_score_gradient(classifier, draw_images(classifier)[0], int(TARGETS[0]), "blocks.2")
    torch.testing.assert_close(gradient, captured.attention_gradient[-1][0], rtol=1e-3, atol=1e-7)
