"""Pre-trained weights, from a file or the Hugging Face hub; one function loads them, without pickle.

`weights` is one string:
    none                        from scratch
    weights/vit.safetensors     a file (.safetensors, .pth, .bin or the original .npz); anything with a path separator
                                or one of these suffixes
    weights/vit_of_the_hub      a folder in the hub's format; it says its normalisation by itself
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
from pipeline.models.hub_folder import config_in, weights_in
from pipeline.records import PretrainingReceipt

logger = logging.getLogger(__name__)

RGB = tuple[float, float, float]
FROM_SCRATCH = "none"

LFS_POINTER = b"version https://git-lfs"  # how a file begins that git has not yet fetched
SUFFIXES = (".safetensors", ".pth", ".bin", ".npz")
HEAD = ("head", "head_dist", "fc_norm", "pre_logits")  # first part of the names of what a new task replaces
DAMAGE = (SafetensorError, pickle.UnpicklingError, BadZipFile, RuntimeError, EOFError, KeyError, ValueError, OSError)


def is_path(weights: str) -> bool:
    return "/" in weights or os.sep in weights or weights.endswith(SUFFIXES)


def is_tag(weights: str) -> bool:
    return weights != FROM_SCRATCH and not is_path(weights)


def as_folder(weights: str) -> Path | None:
    """The folder that `weights` is the path of, if it is one."""
    path = Path(weights).expanduser()
    return path if is_path(weights) and path.is_dir() else None


def weights_file(arch: str, weights: str) -> Path:
    """The file to be read, downloaded if it is not on this machine.

    Raises:
        StudyError: there is none, or git has left a pointer in its place.
    """
    if is_tag(weights):
        return _of_tag(arch, weights)
    folder = as_folder(weights)
    path = weights_in(folder) if folder else Path(weights).expanduser()
    if not path.is_file():
        raise StudyError(f"weights: {path}: no such file; give the path of a checkpoint or hub folder, a tag or none")
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise StudyError(f"weights: {path}: stands for a file that git has not fetched; run `git lfs pull` there")
    return path


def pretrained_cfg(arch: str, weights: str) -> PretrainedCfg:
    """Normalisation, licence and hub address: as the folder of weights says, else timm's record of the tag.

    Raises:
        StudyError: no such tag, the known ones are listed; or the folder is of another architecture.
    """
    if folder := as_folder(weights):
        return config_in(folder, arch)
    name, _, own_tag = arch.partition(".")
    tag = weights if is_tag(weights) else own_tag
    known = {full.partition(".")[2]: cfg for full, cfg in timm.models.get_arch_pretrained_cfgs(name).items()}
    if not tag:
        return timm.models.get_pretrained_cfg(name) or PretrainedCfg()
    if not known:
        raise StudyError(f"arch: timm knows no weights of {name}; is it spelt as timm does?")
    if tag not in known:
        key = "weights" if is_tag(weights) else "arch"
        listed = ", ".join(sorted(filter(None, known))) or "no tags"
        raise StudyError(f"{key}: {name} has no tag {tag}; it has {listed}; or give a path, which has a /")
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
    path = weights_file(arch, weights)
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


def receipt_of(path: Path) -> PretrainingReceipt | None:
    """Of a file that this project's pre-training made; None of others."""
    try:
        return PretrainingReceipt.read_from(path.with_suffix(".json"))
    except StudyError:
        return None


def _check_receipt(path: Path) -> None:
    """Refuses a file of ours that was changed or exchanged since its receipt was written."""
    receipt = receipt_of(path)
    if receipt and sha256_of(path) != receipt.checkpoint_sha256:
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
