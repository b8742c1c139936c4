"""A fine-tuned model as one safetensors file that rebuilds itself: tensors, and a description in the header."""

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.files import whole_file
from pipeline.models.build import ArchOptions, Classifier, build_classifier

HEADER_KEY = "checkpoint"  # one key only: safetensors writes several in random order


class CheckpointDescription(BaseModel):
    """What the tensors do not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    arch: str
    arch_options: ArchOptions
    weights: str  # where the fine-tuning started
    classes: tuple[str, ...]
    image_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def save_checkpoint(classifier: Classifier, description: CheckpointDescription, path: Path) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={HEADER_KEY: description.model_dump_json()})


def load_checkpoint(path: Path, device: str = "cpu") -> tuple[Classifier, CheckpointDescription]:
    """The model in eval mode, built from the file alone, and its description.

    Raises:
        StudyError: the file is absent, damaged, or its tensors are not those of the model it describes.
    """
    description, tensors = _read(path)
    try:
        classifier = build_classifier(
            description.arch, description.arch_options, "none", len(description.classes), description.image_size_px, 0
        )
    except StudyError as error:
        raise StudyError(f"{path}: describes a model that cannot be built: {error}") from None
    _check_tensors(tensors, classifier.state_dict(), path)
    classifier.load_state_dict(tensors)
    return classifier.to(device).eval(), description


def _read(path: Path) -> tuple[CheckpointDescription, dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as file:
            description = CheckpointDescription.model_validate_json((file.metadata() or {}).get(HEADER_KEY, ""))
            return description, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run `dvc repro` to make it") from None
    except ValidationError:
        raise StudyError(f"{path}: carries no description of ours; run `dvc repro` to make it anew") from None
    except (SafetensorError, OSError) as error:
        raise StudyError(f"{path}: damaged ({error}); run `dvc repro` to make it anew") from None


def _check_tensors(given: dict[str, Tensor], wanted: dict[str, Tensor], path: Path) -> None:
    for name in sorted(set(given) | set(wanted)):
        if name not in given or name not in wanted:
            raise StudyError(f"{path}: tensor {name} is {'missing' if name in wanted else 'surplus'}")
        if given[name].shape != wanted[name].shape:
            shapes = f"{tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
            raise StudyError(f"{path}: tensor {name} is {shapes}")
        if not torch.isfinite(given[name]).all():
            raise StudyError(f"{path}: tensor {name} is not finite")
