"""Pre-trained weights, from a file or the Hugging Face hub; one function loads them, without pickle.

`weights` is one string:
    none                        from scratch
    weights/vit.safetensors     a file (.safetensors, .pth, .bin or the original .npz); anything with a path separator
                                or one of these suffixes
    augreg2_in21k_ft_in1k       a timm tag of the architecture, fetched from the hub or found in its local cache
"""

import logging
import os
import pickle
from importlib import import_module
from pathlib import Path
from zipfile import BadZipFile

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from timm.models import PretrainedCfg
from torch import Tensor, nn

from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_file
from pipeline.models.hub import hub_file
from pipeline.records import PretrainingReceipt

logger = logging.getLogger(__name__)

RGB = tuple[float, float, float]
FROM_SCRATCH = "none"

SUFFIXES = (".safetensors", ".pth", ".bin", ".npz")
HEAD = ("head", "head_dist", "fc_norm", "pre_logits")  # first part of the names of what a new task replaces
DAMAGE = (SafetensorError, pickle.UnpicklingError, BadZipFile, RuntimeError, EOFError, KeyError, ValueError, OSError)


def is_path(weights: str) -> bool:
    return "/" in weights or os.sep in weights or weights.endswith(SUFFIXES)


def is_tag(weights: str) -> bool:
    return weights != FROM_SCRATCH and not is_path(weights)


def pretrained_cfg(arch: str, weights: str) -> PretrainedCfg:
    """timm's record of the architecture under this tag: normalisation, hub address.

    Raises:
        StudyError: no such tag; the known ones are listed.
    """
    name, _, own_tag = arch.partition(".")
    tag = weights if is_tag(weights) else own_tag
    known = {full.partition(".")[2]: cfg for full, cfg in timm.models.get_arch_pretrained_cfgs(name).items()}
    if not tag:
        return timm.models.get_pretrained_cfg(name) or PretrainedCfg()
    if tag not in known:
        key = "weights" if is_tag(weights) else "arch"
        listed = ", ".join(sorted(filter(None, known))) or "no tags"
        raise StudyError(f"{key}: {name} has no tag {tag}; it has {listed}; or give the path of a file")
    return known[tag]


def normalisation(arch: str, weights: str) -> tuple[RGB, RGB]:
    """Mean and standard deviation that the weights were trained with."""
    cfg = pretrained_cfg(arch, weights)
    (red, green, blue), (red_std, green_std, blue_std) = cfg.mean, cfg.std
    return (red, green, blue), (red_std, green_std, blue_std)


def load_weights(backbone: nn.Module, arch: str, weights: str) -> None:
    """Fill the backbone; the head keeps the values it has.

    Raises:
        StudyError: the weights are absent, damaged or of another model; the tensor that does not fit is named.
    """
    if weights == FROM_SCRATCH:
        return
    path = Path(weights) if is_path(weights) else _of_tag(arch, weights)
    if not path.is_file():
        raise StudyError(f"weights: {path}: no such file; give the path of a checkpoint, a hub tag or none")
    _check_receipt(path)
    if path.suffix == ".npz":
        _load_npz(backbone, path)
    else:
        _load_state(backbone, _read_state(path), path)
    logger.info("weights of %s read from %s", arch, path.name)


def save_weights(backbone: nn.Module, path: Path) -> None:
    """The backbone without its heads as fp16 safetensors, under timm's names."""
    body = {name: tensor for name, tensor in backbone.state_dict().items() if not _of_head(name)}
    halves = {name: tensor.detach().cpu().half().contiguous() for name, tensor in body.items()}
    with whole_file(path) as partial:
        save_file(halves, partial, metadata={"format": "pt"})


def _of_head(name: str) -> bool:
    return name.split(".")[0] in HEAD


def _check_receipt(path: Path) -> None:
    """Refuses a file of ours that was changed or exchanged since its receipt was written; others have no receipt."""
    try:
        receipt = PretrainingReceipt.read_from(path.with_suffix(".json"))
    except StudyError:
        return
    if sha256_of(path) != receipt.checkpoint_sha256:
        raise StudyError(
            f"weights: {path}: damaged or exchanged: not the file of {path.stem}.json; `git checkout {path}` brings "
            f"the shipped one, `make pretrain` makes both anew, and a file of your own stands alone without a .json"
        )


def _of_tag(arch: str, tag: str) -> Path:
    repository = pretrained_cfg(arch, tag).hf_hub_id
    if not repository:
        raise StudyError(
            f"weights: timm publishes no file of {arch} under the tag {tag}; give the path of a file or none"
        )
    return hub_file(repository, arch)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = timm.models.load_state_dict(str(path), weights_only=True)
    except DAMAGE as error:
        raise StudyError(f"weights: {path}: damaged, or no plain weights: {_one_line(error)}") from None
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise StudyError(f"weights: {path}: holds no plain table of tensors; export the model's state_dict")
    return state


def _load_state(backbone: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """timm's own filter renames tensors of the original releases and resamples position embeddings and patches."""
    own = backbone.state_dict()
    try:
        state = import_module(type(backbone).__module__).checkpoint_filter_fn(dict(state), backbone)
    except DAMAGE as error:
        _check_fit(own, state, path)  # names the tensor
        raise StudyError(f"weights: {path}: of another model: {_one_line(error)}") from None
    body = {name: tensor for name, tensor in state.items() if not _of_head(name)}
    _check_fit(own, body, path)
    backbone.load_state_dict({**own, **body})


def _check_fit(own: dict[str, Tensor], given: dict[str, Tensor], path: Path) -> None:
    for name, tensor in own.items():
        if _of_head(name):
            continue
        if name not in given:
            raise StudyError(f"weights: {path}: of another model: {name} is missing")
        if given[name].shape != tensor.shape:
            found, wanted = tuple(given[name].shape), tuple(tensor.shape)
            raise StudyError(f"weights: {path}: of another model: {name} is {found}, not {wanted}")
        if not torch.isfinite(given[name]).all():
            raise StudyError(f"weights: {path}: damaged: {name} is not finite")
    if surplus := sorted(set(given) - set(own)):
        raise StudyError(f"weights: {path}: of another model: this one has no {surplus[0]}")


def _load_npz(backbone: nn.Module, path: Path) -> None:
    """The original augreg release (JAX names); timm resamples the position embeddings."""
    try:
        backbone.load_pretrained(str(path))  # type: ignore[operator]
    except (AttributeError, *DAMAGE) as error:
        raise StudyError(f"weights: {path}: damaged or of another model: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
