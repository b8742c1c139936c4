"""params.yaml as frozen, typed sections. A typo, a wrong type or a value out of range is refused by its full key.

Only flows load the file; a function gets its own section or plain values.
"""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError, model_validator

from pipeline.errors import StudyError
from pipeline.params.data import (
    CellPhantomParams,
    DatasetParams,
    PhantomParams,
    PhantomSection,
    PreprocessParams,
    StudyParams,
    UltrasoundPhantomParams,
)
from pipeline.params.evidence import (
    ExplainParams,
    FindingsParams,
    MethodName,
    MethodParams,
    ProtocolParams,
    ReportParams,
    ScoreParams,
    ShortcutRule,
    SubstrateName,
)
from pipeline.params.promotion import Condition, PromotionParams
from pipeline.params.runner import RunnerParams
from pipeline.params.section import Section, faults_of
from pipeline.params.training import (
    AugmentationParams,
    DinoParams,
    DistilledParams,
    FinetuneParams,
    ModelParams,
    PretrainingParams,
    StrategyName,
    StrategyParams,
    SupervisedParams,
    TeacherParams,
    TrainingParams,
    ViewParams,
)

__all__ = [
    "AugmentationParams",
    "CellPhantomParams",
    "Condition",
    "DatasetParams",
    "DinoParams",
    "DistilledParams",
    "ExplainParams",
    "FindingsParams",
    "FinetuneParams",
    "MethodName",
    "MethodParams",
    "ModelParams",
    "Params",
    "PhantomParams",
    "PhantomSection",
    "PreprocessParams",
    "PretrainingParams",
    "PromotionParams",
    "ProtocolParams",
    "ReportParams",
    "RunnerParams",
    "ScoreParams",
    "Section",
    "ShortcutRule",
    "StrategyName",
    "StrategyParams",
    "StudyParams",
    "SubstrateName",
    "SupervisedParams",
    "TeacherParams",
    "TrainingParams",
    "UltrasoundPhantomParams",
    "ViewParams",
    "faults_of",
    "load_params",
]


# It names folders, DVC's stages and registered models, where a hyphen joins it with a model's name.
DatasetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Params(Section):
    """All of params.yaml."""

    study: StudyParams
    datasets: dict[DatasetName, DatasetParams]
    phantom: PhantomParams
    preprocess: PreprocessParams
    models: dict[str, ModelParams]
    pretraining: PretrainingParams
    finetune: FinetuneParams
    explain: ExplainParams
    score: ScoreParams
    report: ReportParams
    findings: FindingsParams
    promotion: PromotionParams
    runner: RunnerParams

    @model_validator(mode="after")
    def _study_names_known_keys(self) -> "Params":
        _refuse_unknown("study.datasets", self.study.datasets, self.datasets)
        _refuse_unknown("study.models", self.study.models, self.models)
        _refuse_unknown("pretraining.strategies", tuple(self.pretraining.strategies), self.models)
        _refuse_unknown("pretraining.stages", self.pretraining.stages, self.pretraining.strategies)
        return self

    @model_validator(mode="after")
    def _pretraining_sees_no_image_of_the_study(self) -> "Params":
        if self.pretraining.seed == self.phantom.seed:
            raise ValueError("pretraining.seed: must differ from phantom.seed, or the study's test images are learned")
        return self

    @model_validator(mode="after")
    def _promotion_asks_for_what_is_scored(self) -> "Params":
        self.promotion.refuse_unknown(tuple(self.datasets), self.explain.methods)
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """The whole file, checked.

    Raises:
        StudyError: the file is absent, is not YAML, or holds a key or value that is not allowed; every fault is named.
    """
    try:
        return Params.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run from the project's folder") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    except ValidationError as error:
        raise StudyError(f"{path}: {faults_of(error)}") from None


def _refuse_unknown(key: str, names: tuple[str, ...], known: dict[str, object] | dict) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{key}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{key}: a name stands twice")
