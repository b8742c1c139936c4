"""What is built: classes, seeds, the normalisation inside, and which wishes are refused."""

import pytest
import torch
from torch import nn

from pipeline.errors import StudyError
from pipeline.models.build import as_classifier, build_classifier
from tests.models.tiny import MODELS, SIDE_PX, VIT, build, draw_images

import timm  # isort: skip


@pytest.mark.parametrize("model", MODELS)
def test_a_logit_for_each_class_and_image(model):
    assert build(model)(draw_images()).shape == (2, 3)


@pytest.mark.parametrize("model", MODELS)
def test_the_seed_decides_the_weights(model):
    first, same, other = (build(model, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("model", MODELS)
def test_from_scratch_the_spread_of_weights_suits_the_width(model):
    backbone = build(model).backbone
    spread = {
        name: weight.std() * weight[0].numel() ** 0.5 for name, weight in backbone.named_parameters() if weight.ndim > 1
    }
    layers = [value for name, value in spread.items() if name.endswith(("qkv.weight", "fc1.weight", "fc2.weight"))]
    assert min(layers) > 0.9
    assert max(layers) < 1.1
    assert all(value < 0.5 for name, value in spread.items() if name.startswith("head"))


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    build("vit")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("model", "mean", "std"),
    [
        ("vit", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("deit", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("dino", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("swin", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_normalisation_is_that_of_the_tag_and_lives_inside(model, mean, std):
    classifier, images = build(model).eval(), draw_images()
    by_hand = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(classifier(images), classifier.backbone(by_hand))


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("vit_tinny_patch16_224", {}, "arch: .* did you mean vit_tiny_patch16_224"),
        ("vit_tiny_patch16_224.nope", {}, "arch: .* has no tag nope; it has .*augreg_in21k"),
        ("hf-hub:someone/model", {}, "arch: timm has no"),
        ("vit_tiny_patch16_224", {"embed_dims": 24}, "arch_options: .*embed_dims"),
        ("vit_tiny_patch16_224", {**VIT, "embed_dim": 25}, "arch_options: .*divisible"),
        ("vit_tiny_patch16_224", {**VIT, "patch_size": 5}, "arch_options: patches of 5 px do not fill images of 32 px"),
        ("vit_tiny_patch16_224", {"checkpoint_path": "x.pth"}, "arch_options: checkpoint_path cannot be set"),
        ("resnet18", {}, "arch.*resnet18"),
    ],
)
def test_refuses_what_cannot_be_built(arch, options, message):
    with pytest.raises(StudyError, match=message):
        build_classifier(arch, options, "none", 3, 32, 0)


def test_from_scratch_signals_keep_their_size_through_a_narrow_network():
    classifier = build_classifier(
        "vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}, "none", 3, 32, seed=0
    )
    for name, module in classifier.backbone.named_modules():
        if isinstance(module, nn.Linear) and name != "head":
            assert module.weight.std().item() == pytest.approx(module.in_features**-0.5, rel=0.1), name
    assert classifier.backbone.head.weight.std() < 0.05


def test_a_plain_timm_model_gets_the_normalisation_of_its_own_weights():
    model = timm.create_model("vit_tiny_patch16_224.augreg_in21k_ft_in1k", img_size=SIDE_PX, num_classes=3).eval()
    images = draw_images()
    with torch.no_grad():
        assert torch.equal(as_classifier(model)(images), model((images - 0.5) / 0.5))


def test_a_classifier_stays_what_it_is():
    classifier = build("vit")
    assert as_classifier(classifier) is classifier


def test_a_model_without_a_normalisation_is_refused():
    with pytest.raises(StudyError, match=r"Linear has no pretrained_cfg"):
        as_classifier(nn.Linear(3, 3))
