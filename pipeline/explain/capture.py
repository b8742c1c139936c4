"""One forward and one backward pass per batch, read through hooks; most explanations are arithmetic on what it returns.

The model is left exactly as it was found, see `pipeline.explain.watch`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.explain.watch import by_image, check_seen, fp32_gradients, watched
from pipeline.models.build import Classifier
from pipeline.models.family import AUTO, Family, family_of


@dataclass(frozen=True)
class Captured:
    """What one pass saw of a batch; a gradient is that of each image's target logit.

    Attention is after softmax, [image, window, head, token, token], one tensor per layer, first layer first; a ViT is
    one window.
    """

    family: Family
    logits: Float[Tensor, "n classes"]
    targets: Int64[Tensor, " n"]
    activation: Float[Tensor, "n h w c"]  # of the Grad-CAM layer
    activation_gradient: Float[Tensor, "n h w c"]
    attention: tuple[Float[Tensor, "n _ _ _ _"], ...]
    attention_gradient: tuple[Float[Tensor, "n _ _ _ _"], ...]
    layers_before_cam: int  # attention layers that ran before the Grad-CAM layer


def capture(
    classifier: Classifier,
    images: Float[Tensor, "n 3 h w"],
    targets: Int64[Tensor, " n"] | None,
    cam_layer: str = AUTO,
) -> Captured:
    """Activation, attention and their gradients, in fp32 and detached from the graph.

    Images do not influence each other: a batch gives what its images give one by one.

    Args:
        targets: the classes explained; None takes those predicted.
        cam_layer: see `family_of`.

    Raises:
        StudyError: the model cannot be explained (see `family_of`), shows no attention, or gives a zero or a
            non-finite gradient, from which a map would be blank without a word.
    """
    backbone = classifier.backbone
    family = family_of(backbone, cam_layer)
    layers = [family.cam_layer]
    with watched(classifier, backbone, family, layers) as seen, fp32_gradients(images.device):
        logits = classifier(images.clone().requires_grad_())
        check_seen(seen, family, layers)
        _check_cam_layer(seen[family.cam_layer], family, len(images))
        classes = logits.argmax(dim=1) if targets is None else targets
        scores = logits.gather(1, classes[:, None])
        # Gradients of these tensors only: nothing is written to `.grad`, and the pass ends at the first attention.
        gradients = dict(zip(seen, torch.autograd.grad(scores.sum(), list(seen.values())), strict=True))
    activation_gradient = family.to_cam_grid(gradients[family.cam_layer])
    _check_numbers(logits, gradients, activation_gradient, family)
    return Captured(
        family=family,
        logits=logits.detach(),
        targets=classes,
        activation=family.to_cam_grid(seen[family.cam_layer].detach()),
        activation_gradient=activation_gradient,
        attention=tuple(by_image(seen[name].detach(), len(images)) for name in family.attention),
        attention_gradient=tuple(by_image(gradients[name], len(images)) for name in family.attention),
        layers_before_cam=list(seen).index(family.cam_layer),
    )


def _check_cam_layer(output: Any, family: Family, num_images: int) -> None:
    if isinstance(output, Tensor) and family.lies_on_cam_grid(tuple(output.shape), num_images):
        return
    text = f"an output of {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise StudyError(
        f"explain.cam_layer: {family.cam_layer} gives {text}, not a vector for each patch; choose a block or a norm"
    )


def _check_numbers(
    logits: Tensor, gradients: dict[str, Tensor], activation_gradient: Float[Tensor, "n h w c"], family: Family
) -> None:
    if not torch.isfinite(logits).all():
        raise StudyError(f"{family.title}: a logit is not a finite number; the checkpoint or an image is damaged")
    for name, gradient in gradients.items():
        if not torch.isfinite(gradient).all():
            raise StudyError(f"{family.title}: the gradient at {name} is not finite; the checkpoint is damaged")
    if blank := (activation_gradient.abs().amax(dim=(1, 2, 3)) == 0).nonzero().flatten().tolist():
        raise StudyError(
            f"{family.title}: the target logit has no gradient at {family.cam_layer} (image {blank[0]} of the batch), "
            "so Grad-CAM would be blank; is the head trained, and does an attention follow that layer?"
        )
