"""The models of the study: MODELS names them; build, weights and checkpoint make, fill and keep them."""

from dataclasses import dataclass

from pipeline.errors import StudyError
from pipeline.models._torchvision_cpu import declare_missing_operators

declare_missing_operators()  # before anything imports timm, and with it torchvision


@dataclass(frozen=True)
class ModelSpec:
    """What the report says of a model; its architecture and weights stand in params.yaml under the same key."""

    title: str
    strategy: str  # how the paper's weights were made, the variable under study


MODELS: dict[str, ModelSpec] = {
    "vit": ModelSpec("ViT", "supervised on ImageNet-21k, then ImageNet-1k"),
    "deit": ModelSpec("DeiT", "supervised on ImageNet-1k, distilled from a convolutional teacher"),
    "dino": ModelSpec("DINO", "self-supervised on ImageNet-1k, by self-distillation without labels"),
    "swin": ModelSpec("Swin", "supervised on ImageNet, attention within shifted windows"),
}


def get(name: str) -> ModelSpec:
    """The model called `name`.

    Raises:
        StudyError: there is none; the known names are listed.
    """
    if name not in MODELS:
        raise StudyError(f"study.models: unknown model {name}; choose from {', '.join(MODELS)}")
    return MODELS[name]
