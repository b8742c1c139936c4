"""One forward and one backward pass per batch, read through hooks; every explanation is arithmetic on what it returns.

The model is left exactly as it was found, after an error too: train flags, parameter flags and gradients, fused
attention, hooks.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pipeline.errors import StudyError
from pipeline.models.build import Classifier
from pipeline.models.family import Family, family_of


@dataclass(frozen=True)
class Captured:
    """What one pass saw of a batch; a gradient is that of each image's target logit.

    Attention is after softmax, [image, window, head, token, token], one tensor per layer, first layer first; a ViT is
    one window.
    """

    family: Family
    logits: Float[Tensor, "n classes"]
    activation: Float[Tensor, "n h w c"]  # of the Grad-CAM layer
    activation_gradient: Float[Tensor, "n h w c"]
    attention: tuple[Float[Tensor, "n _ _ _ _"], ...]
    attention_gradient: tuple[Float[Tensor, "n _ _ _ _"], ...]


def capture(classifier: Classifier, images: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, " n"]) -> Captured:
    """Activation, attention and their gradients, in fp32 and detached from the graph.

    Images do not influence each other: a batch gives what its images give one by one.

    Raises:
        StudyError: the model cannot be explained (see `family_of`), shows no attention, or gives a zero or a
            non-finite gradient, from which a map would be blank without a word.
    """
    family = family_of(classifier.backbone)
    with _read_only(classifier, family) as seen, _fp32_gradients(images.device):
        logits = classifier(images.clone().requires_grad_())
        _check_seen(seen, family)
        scores = logits.gather(1, targets[:, None])
        # Gradients of these tensors only: nothing is written to `.grad`, and the pass ends at the first attention.
        gradients = dict(zip(seen, torch.autograd.grad(scores.sum(), list(seen.values())), strict=True))
    activation_gradient = family.to_cam_grid(gradients[family.cam_layer])
    _check_numbers(logits, gradients, activation_gradient, family)
    return Captured(
        family=family,
        logits=logits.detach(),
        activation=family.to_cam_grid(seen[family.cam_layer].detach()),
        activation_gradient=activation_gradient,
        attention=tuple(_by_image(seen[name].detach(), len(images)) for name in family.attention),
        attention_gradient=tuple(_by_image(gradients[name], len(images)) for name in family.attention),
    )


def _by_image(attention: Float[Tensor, "m k t t"], num_images: int) -> Float[Tensor, "n w k t t"]:
    """Swin stacks the windows of one image after the other along the batch axis."""
    return attention.unflatten(0, (num_images, -1))


def _check_seen(seen: dict[str, Tensor], family: Family) -> None:
    missing = [name for name in (family.cam_layer, *family.attention) if name not in seen]
    if missing:
        raise StudyError(f"{family.title}: saw no output of {', '.join(missing)}; is the layer run another way?")
    if outside := [name for name, tensor in seen.items() if not tensor.requires_grad]:
        raise StudyError(
            f"{family.title}: {', '.join(outside)} lies outside the graph; switch gradient checkpointing off"
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
            "so Grad-CAM would be blank; is the head trained?"
        )


@contextmanager
def _fp32_gradients(device: torch.device) -> Iterator[None]:
    """fp16 would flush most attention gradients to zero; a caller's no_grad or inference_mode is lifted."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def _read_only(classifier: Classifier, family: Family) -> Iterator[dict[str, Tensor]]:
    """What the family's layers put out while the model runs, in evaluation mode and frozen; then all is undone."""
    backbone = classifier.backbone
    # Attention dropout is the identity in evaluation, and the one place where a hook sees the softmax.
    watched = {name: backbone.get_submodule(f"{name}.attn_drop") for name in family.attention}
    watched[family.cam_layer] = backbone.get_submodule(family.cam_layer)
    with ExitStack() as undo:
        for module in classifier.modules():
            undo.enter_context(_attribute(module, "training", False))
        for parameter in classifier.parameters():
            undo.enter_context(_attribute(parameter, "requires_grad", False))
        for name in family.attention:  # a fused kernel never shows its attention
            undo.enter_context(_attribute(backbone.get_submodule(name), "fused_attn", False))
        yield undo.enter_context(_outputs(watched))


@contextmanager
def _attribute(owner: nn.Module | nn.Parameter, name: str, value: bool) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    seen: dict[str, Tensor] = {}
    handles = [module.register_forward_hook(_keep(seen, name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple, Tensor], None]:
    def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        seen[name] = output

    return hook
