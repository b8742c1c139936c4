"""Class activation maps against pytorch-grad-cam, against CAM, and by hand."""

import cv2
import numpy as np
import pytest
import torch

from pipeline.errors import StudyError
from pipeline.explain.capture import Captured, capture
from pipeline.explain.gradcam import gradcam, hirescam, layercam, signed_gradcam
from pipeline.models.family import family_of
from tests.explain.tiny import FAMILIES, TARGETS, build, captured_of, draw_images

from pytorch_grad_cam import GradCAM, HiResCAM, LayerCAM  # isort: skip
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # isort: skip


def stretch(cam, size):
    """pytorch-grad-cam's own finish: min-max, bilinear resize to (width, height), min-max."""
    cam = (cam - cam.min()) / (1e-7 + (cam - cam.min()).max())
    cam = np.maximum(cv2.resize(cam, size), 0)
    return (cam - cam.min()) / (1e-7 + (cam - cam.min()).max())


def stretched(maps, images):
    return [stretch(cam.numpy(), (images.shape[3], images.shape[2])) for cam in maps]


def library_maps(method, classifier, images, family, layer):
    library = method(classifier, [layer], reshape_transform=lambda x: family.to_cam_grid(x).permute(0, 3, 1, 2))
    return library(images, [ClassifierOutputTarget(int(target)) for target in TARGETS])


def with_maps(captured: Captured, activation, gradient) -> Captured:
    n = len(activation)
    return Captured(captured.family, captured.logits[:n], captured.targets[:n], activation, gradient, (), (), 0)


@pytest.mark.parametrize("key", FAMILIES)
def test_it_equals_pytorch_grad_cam(key):
    classifier = build(key)
    images, family = draw_images(classifier), family_of(classifier.backbone)
    layer = classifier.backbone.get_submodule(family.cam_layer)
    expected = library_maps(GradCAM, classifier, images, family, layer)
    found = stretched(gradcam(capture(classifier, images, TARGETS)), images)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("key", ["vit", "averaged_vit", "wide_swin", "wide_swin_v2"])
@pytest.mark.parametrize(("method", "library"), [(gradcam, GradCAM), (hirescam, HiResCAM), (layercam, LayerCAM)])
@pytest.mark.parametrize("layer", ["norm1", "norm2", "an early block"])
def test_every_method_equals_pytorch_grad_cam_on_a_named_layer(key, method, library, layer):
    classifier = build(key)
    if layer == "norm2" and key == "vit":
        pytest.skip("no patch has a gradient there")
    early = family_of(classifier.backbone).attention[0].removesuffix(".attn")
    images, family = draw_images(classifier), family_of(classifier.backbone, early if " " in layer else layer)
    expected = library_maps(library, classifier, images, family, classifier.backbone.get_submodule(family.cam_layer))
    captured = capture(classifier, images, TARGETS, family.cam_layer)
    np.testing.assert_allclose(stretched(method(captured), images), expected, atol=1e-5)


@pytest.mark.parametrize(("key", "layer"), [("vit", "norm2"), ("vit", "block"), ("dinov3", "norm")])
def test_a_layer_behind_the_last_attention_of_a_class_token_is_refused(key, layer):
    classifier = build(key)
    with pytest.raises(StudyError, match="does an attention follow that layer"):
        capture(classifier, draw_images(classifier), TARGETS, layer)


@pytest.mark.parametrize(
    ("key", "layer"), [("vit", "head"), ("vit", "blocks.0.attn.attn_drop"), ("swin", "head.fc"), ("swin", "layers")]
)
def test_a_layer_without_a_vector_for_each_patch_is_refused(key, layer):
    classifier = build(key)
    with pytest.raises(StudyError, match=r"explain\.cam_layer: .* not a vector for each patch"):
        capture(classifier, draw_images(classifier), TARGETS, layer)


def test_without_its_threshold_a_map_tells_what_speaks_against_the_target():
    captured = captured_of("vit")
    signed = signed_gradcam(captured)
    assert (signed < 0).any()
    assert torch.equal(signed.relu(), gradcam(captured))


@pytest.mark.parametrize("key", ["swin", "wide_swin_v2", "averaged_dinov3"])
def test_hirescam_adds_up_to_the_logit_where_the_head_is_linear(key):
    classifier = build(key)
    captured = capture(classifier, draw_images(classifier), TARGETS)
    total = (captured.activation * captured.activation_gradient).sum(dim=(1, 2, 3))
    bias = classifier.backbone.get_submodule("head.fc" if "swin" in key else "head").bias
    torch.testing.assert_close(total, captured.logits.gather(1, TARGETS[:, None])[:, 0] - bias[TARGETS])


@pytest.mark.parametrize("key", ["swin", "wide_swin", "wide_swin_v2"])
def test_on_swin_it_equals_cam(key):
    """Zhou et al. 2016: the class's head weights over the normalised last tokens, here averaged over the grid."""
    classifier = build(key)
    images, backbone = draw_images(classifier), classifier.backbone
    tokens = backbone.forward_features((images - classifier.mean) / classifier.std)
    cam = torch.einsum("nhwc,nc->nhw", tokens, backbone.head.fc.weight[TARGETS]).relu()
    torch.testing.assert_close(gradcam(capture(classifier, images, TARGETS)), cam / tokens[0, :, :, 0].numel())


def test_channels_are_weighted_by_their_mean_gradient():
    """One channel of activation 1, 2, 3, 4 and mean gradient 0.5; another that counts against the class."""
    classifier = build("vit")
    captured = capture(classifier, draw_images(classifier), TARGETS)
    activation = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 0.0], [4.0, 9.0]]])[None]
    gradient = torch.tensor([[[2.0, -1.0], [0.0, -1.0]], [[0.0, -1.0], [0.0, -1.0]]])[None]
    found = gradcam(with_maps(captured, activation, gradient))
    assert found.tolist() == [[[0.5, 1.0], [1.5, 0.0]]]


def test_scale_is_kept_between_images():
    classifier = build("swin")
    captured = capture(classifier, draw_images(classifier), TARGETS)
    doubled = with_maps(captured, 2 * captured.activation, captured.activation_gradient)
    assert torch.equal(gradcam(doubled), 2 * gradcam(captured))


@pytest.mark.parametrize("layer", ["blocks.2", "norm"])
def test_after_the_last_attention_of_a_class_token_no_patch_has_a_gradient(layer):
    """Why the layer depends on the pooling: here pytorch-grad-cam answers with a blank map and no word."""
    classifier = build("vit")
    seen = []
    handle = classifier.backbone.get_submodule(layer).register_forward_hook(lambda m, i, out: seen.append(out))
    logit = classifier(draw_images(classifier))[:, 0].sum()
    handle.remove()
    assert torch.autograd.grad(logit, seen)[0][:, 1:].abs().max() == 0
