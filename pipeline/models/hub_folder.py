"""A folder in the hub's format: config.json, weights and perhaps README.md.

So are a clone of a repository, a snapshot in the hub's cache, and what timm's save_for_hf and push_to_hf_hub write.
"""

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from huggingface_hub import ModelCard
from pydantic import BaseModel, Field, ValidationError, model_validator
from timm.models import PretrainedCfg

from pipeline.errors import StudyError
from pipeline.models.hub import FILE_NAMES, PAGES
from pipeline.params.section import Positive, faults_of

CONFIG, README = "config.json", "README.md"
SNAPSHOT = re.compile(r"/models--(?P<owner>.+?)--(?P<name>.+)/snapshots/[^/]+$")


class _Pretrained(BaseModel):
    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]
    license: str | None = None
    origin_url: str | None = None


class _Config(BaseModel):
    """What is read of config.json."""

    architecture: Annotated[str, Field(min_length=1)]
    pretrained_cfg: _Pretrained

    @model_validator(mode="before")
    @classmethod
    def _older_form(cls, whole: Any) -> Any:
        """Once all of it stood at the top, as timm still reads it."""
        older = isinstance(whole, dict) and "pretrained_cfg" not in whole
        return {**whole, "pretrained_cfg": whole} if older else whole


def weights_in(folder: Path) -> Path:
    """The file of weights; safetensors, where there are both.

    Raises:
        StudyError: there is none.
    """
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise StudyError(
        f"weights: {folder}: a folder without {' and '.join(FILE_NAMES)}; copy one of them into it (of a folder in the "
        "hub's cache give one that lies under its snapshots)"
    )


def config_in(folder: Path, arch: str) -> PretrainedCfg:
    """Normalisation, licence and origin of the weights.

    Raises:
        StudyError: config.json is absent, not timm's, or of another architecture than `arch`.
    """
    config, name = _read(folder / CONFIG), arch.partition(".")[0]
    if config.architecture != name:
        raise StudyError(f"weights: {folder}: of {config.architecture}, not {name}; set arch to {config.architecture}")
    found = config.pretrained_cfg.model_dump()
    return PretrainedCfg(architecture=name, **found | {"origin_url": found["origin_url"] or _page(folder)})


def licence_in_readme(folder: Path) -> str | None:
    """As the header of README.md says it; None where there is no such header."""
    try:
        data = ModelCard.load(folder / README).data
    except (ValueError, yaml.YAMLError):  # of no file, or of one whose header cannot be read
        return None
    licence = data.get("license_name") or data.license
    return str(licence) if licence else None


def _read(path: Path) -> _Config:
    remedy = "give the file of weights itself here, and its timm tag in arch"
    try:
        return _Config.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StudyError(f"weights: {path}: absent, so nothing says the normalisation; {remedy}") from None
    except ValidationError as error:
        raise StudyError(f"weights: {path}: not as timm writes it ({faults_of(error)}); {remedy}") from None


def _page(folder: Path) -> str | None:
    """Of the repository whose snapshot in the hub's cache the folder is."""
    found = SNAPSHOT.search(folder.absolute().as_posix())
    return f"{PAGES}/{found['owner']}/{found['name']}" if found else None
