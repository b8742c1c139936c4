"""A model that runs to be explained: evaluated, frozen, in fp32, seen through hooks, and then left as it was found.

Train flags, parameter flags and gradients, fused attention and hooks come back after an error too.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import StudyError
from pipeline.models.family import Family


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and frozen parameters: nothing that runs inside is random or written to `.grad`."""
    with ExitStack() as undo:
        for module in model.modules():
            undo.enter_context(_attribute(module, "training", False))
        for parameter in model.parameters():
            undo.enter_context(_attribute(parameter, "requires_grad", False))
        yield


@contextmanager
def fp32_gradients(device: torch.device) -> Iterator[None]:
    """fp16 would flush most attention gradients to zero; a caller's no_grad or inference_mode is lifted."""
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        yield


@contextmanager
def watched(model: nn.Module, backbone: nn.Module, family: Family, layers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the attention modules (after softmax) and the `layers` of the backbone put out, in the order they ran."""
    # Attention dropout is the identity in evaluation, and the one place where a hook sees the softmax.
    modules = {name: backbone.get_submodule(f"{name}.attn_drop") for name in family.attention}
    modules |= {name: backbone.get_submodule(name) for name in layers}
    with ExitStack() as undo:
        undo.enter_context(at_rest(model))
        for attention in map(backbone.get_submodule, family.attention):
            if hasattr(attention, "fused_attn"):  # a fused kernel never shows its attention
                undo.enter_context(_attribute(attention, "fused_attn", False))
        yield undo.enter_context(_outputs(modules))


def check_seen(seen: dict[str, Any], family: Family, layers: Sequence[str]) -> None:
    """Refuse what autograd cannot reach.

    Raises:
        StudyError: a layer did not run, or ran outside the graph.
    """
    if missing := [name for name in (*layers, *family.attention) if name not in seen]:
        raise StudyError(f"{family.title}: saw no output of {', '.join(missing)}; is the layer run another way?")
    tensors = {name: value for name, value in seen.items() if isinstance(value, Tensor)}
    if outside := [name for name, tensor in tensors.items() if not tensor.requires_grad]:
        raise StudyError(
            f"{family.title}: {', '.join(outside)} lies outside the graph; switch gradient checkpointing off"
        )


def by_image(attention: Tensor, num_images: int) -> Tensor:
    """[image, window, ...] of [image * window, ...]: a Swin stacks each image's windows along the batch axis."""
    return attention.unflatten(0, (num_images, -1))


@contextmanager
def _attribute(owner: nn.Module | nn.Parameter, name: str, value: bool) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _outputs(modules: dict[str, nn.Module]) -> Iterator[dict[str, Any]]:
    seen: dict[str, Any] = {}
    handles = [module.register_forward_hook(_keep(seen, name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(seen: dict[str, Any], name: str) -> Callable[[nn.Module, tuple, Any], None]:
    def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
        seen[name] = output

    return hook
