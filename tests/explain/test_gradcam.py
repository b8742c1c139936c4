"""Grad-CAM against pytorch-grad-cam, against CAM, and by hand."""

import cv2
import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from pipeline.explain.capture import Captured, capture
from pipeline.explain.gradcam import gradcam
from pipeline.models.family import family_of
from tests.explain.tiny import FAMILIES, TARGETS, build, draw_images


def stretch(cam, size):
    """pytorch-grad-cam's own finish: min-max, bilinear resize to (width, height), min-max."""
    cam = (cam - cam.min()) / (1e-7 + (cam - cam.min()).max())
    cam = np.maximum(cv2.resize(cam, size), 0)
    return (cam - cam.min()) / (1e-7 + (cam - cam.min()).max())


def with_maps(captured: Captured, activation, gradient) -> Captured:
    return Captured(captured.family, captured.logits[: len(activation)], activation, gradient, (), ())


@pytest.mark.parametrize("key", FAMILIES)
def test_it_equals_pytorch_grad_cam(key):
    classifier = build(key)
    images, family = draw_images(classifier), family_of(classifier.backbone)
    layer = classifier.backbone.get_submodule(family.cam_layer)
    library = GradCAM(classifier, [layer], reshape_transform=lambda x: family.to_cam_grid(x).permute(0, 3, 1, 2))
    expected = library(images, [ClassifierOutputTarget(int(target)) for target in TARGETS])
    size = (images.shape[3], images.shape[2])
    found = [stretch(cam.numpy(), size) for cam in gradcam(capture(classifier, images, TARGETS))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("key", ["swin", "wide_swin"])
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
