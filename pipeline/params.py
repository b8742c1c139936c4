"""params.yaml as frozen, typed sections. A typo, a wrong type or a value out of range is refused by its full key.

Only flows load the file; a function gets its own section or plain values.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import StudyError

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

# The keys of the registries METHODS and SUBSTRATES, so that a wrong one is refused before anything runs and without
# importing torch; a test holds them in step.
MethodName = Literal[
    "gradcam",
    "signed_gradcam",
    "hirescam",
    "layercam",
    "gradient_rollout",
    "cam_rollout",
    "chefer",
    "attention_rollout",
    "raw_attention",
    "legrad",
    "integrated_gradients",
    "rise",
]
SubstrateName = Literal["zero", "mean", "blur", "blur_20", "blur_40", "another_image", "noisy_linear"]


KIND = re.compile(r"int|constrained-int|literal\[.*\]")  # how pydantic calls a member of a union


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StudyParams(Section):
    datasets: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] = Field(min_length=1)
    seed: Annotated[int, Field(ge=0)]
    seeds: tuple[Annotated[int, Field(ge=0)], ...]
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?|mps)$")]
    threads: Count

    @model_validator(mode="after")
    def _each_seed_is_another(self) -> "StudyParams":
        if self.seed in self.seeds:
            raise ValueError(f"seeds holds study.seed ({self.seed}), which is fine-tuned anyway; name further ones")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds holds a seed twice")
        return self

    def of_repeat(self, seed: int | None) -> "StudyParams":
        """What one fine-tuning is told: that of the study's own cell for None, else that of a repeat.

        Raises:
            StudyError: the study has no repeat with that seed.
        """
        if seed is None:
            return self
        if seed not in self.seeds:
            raise StudyError(f"study.seeds: {seed} is not among them; add it to params.yaml")
        return self.model_copy(update={"seed": seed})


class DatasetParams(Section):
    source: Annotated[str, Field(min_length=1)]
    duplicate_distance: Annotated[int, Field(ge=0, le=64)]


class PhantomSection(Section):
    """What the two phantom sets share."""

    images_per_class: Annotated[int, Field(ge=3)]
    width_px: Annotated[int, Field(ge=32, le=2048)]
    near_copy_fraction: Fraction
    label_conflicts: Annotated[int, Field(ge=0)]
    confuse: Fraction
    shortcut_fraction: Fraction


class CellPhantomParams(PhantomSection):
    second_batch_fraction: Fraction


class UltrasoundPhantomParams(PhantomSection):
    overlay_scale: Annotated[float, Field(ge=0, le=2)]


class PhantomParams(Section):
    seed: Annotated[int, Field(ge=0)]
    pbc: CellPhantomParams
    busi: UltrasoundPhantomParams


class PreprocessParams(Section):
    image_size_px: Annotated[int, Field(ge=16, le=1024)]
    validation_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    test_fraction: Annotated[float, Field(gt=0, lt=0.5)]
    max_unreadable_fraction: Fraction


class ModelParams(Section):
    arch: Annotated[str, Field(min_length=1)]
    arch_options: dict[str, int | float | str | bool | tuple[int, ...]]
    weights: Annotated[str, Field(min_length=1)]
    learning_rate: Positive


class AugmentationParams(Section):
    flip: bool
    quarter_turns: bool
    rotate_degrees: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    brightness: Annotated[float, Field(ge=0, lt=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]


class TrainingParams(Section):
    """What fine-tuning and pre-training share."""

    epochs: Count
    warmup_epochs: Annotated[int, Field(ge=0)]
    batch_size: Count
    weight_decay: NotNegative
    gradient_clip: Positive
    precision: Literal["auto", "fp32", "bf16"]
    workers: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _warmup_ends(self) -> "TrainingParams":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs}) must be less than epochs ({self.epochs})")
        return self


class FinetuneParams(TrainingParams):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_balance: Literal["loss", "sampling", "none"]
    patience: Count
    augmentation: AugmentationParams


StrategyName = Literal["supervised", "distilled", "dino"]
AreaRange = tuple[Fraction, Fraction]  # smallest and largest share of an image's area


class StrategyParams(TrainingParams):
    learning_rate: Positive


class SupervisedParams(StrategyParams):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    augmentation: AugmentationParams


class TeacherParams(Section):
    arch: Annotated[str, Field(min_length=1)]
    epochs: Count
    learning_rate: Positive


class DistilledParams(SupervisedParams):
    teacher: TeacherParams


class ViewParams(Section):
    """The crops of multi-crop training."""

    local_views: Annotated[int, Field(ge=0)]
    local_size_px: Annotated[int, Field(ge=8)]
    global_scale: AreaRange
    local_scale: AreaRange
    brightness: Annotated[float, Field(ge=0, lt=1)]
    saturation: Annotated[float, Field(ge=0, lt=1)]
    hue: Annotated[float, Field(ge=0, le=0.5)]
    grey: Fraction
    blur_sigma_px: Positive


class DinoParams(StrategyParams):
    outputs: Annotated[int, Field(ge=2)]
    head_width: Count
    bottleneck_width: Count
    teacher_temperature: Positive
    student_temperature: Positive
    teacher_momentum: Fraction
    center_momentum: Fraction
    views: ViewParams


class PretrainingParams(Section):
    seed: Annotated[int, Field(ge=0)]
    sources: dict[str, Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    images_per_class: dict[Literal["pbc", "busi"], Annotated[int, Field(ge=3)]]
    stages: tuple[str, ...]
    strategies: dict[str, StrategyName]
    supervised: SupervisedParams
    distilled: DistilledParams
    dino: DinoParams


class MethodParams(Section):
    """What an explanation method can be told."""

    cam_layer: Annotated[str, Field(min_length=1)]
    rollout_mode: Literal["corrected", "compat_vit_explain"]
    discard_ratio: Annotated[float, Field(ge=0, lt=1)]
    head_fusion: Literal["mean", "max", "min"]
    residual_scaling: Literal["none", "rowsum"]
    integrated_gradients_steps: Count
    rise_masks: Count


class ExplainParams(MethodParams):
    methods: tuple[MethodName, ...] = Field(min_length=1)
    max_images: Count | None
    overlays: Annotated[int, Field(ge=0)]
    batch_size: Count


class ProtocolParams(Section):
    """How insertion and deletion curves are drawn."""

    steps: Annotated[int, Field(ge=2)] | Literal["adaptive"]
    insertion_substrate: SubstrateName
    deletion_substrate: SubstrateName
    unit_px: Count
    order: Literal["most_relevant_first", "least_relevant_first"]
    calibrated: bool


class ScoreParams(ProtocolParams):
    variants: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+$")], dict[str, Any]]
    batch_size: Count | Literal["auto"]
    precision: Literal["auto", "fp32", "bf16"]
    pointing_tolerance_px: Annotated[int, Field(ge=0)]
    trust_images: Count
    bootstrap_resamples: Annotated[int, Field(ge=100)]

    @property
    def protocol(self) -> ProtocolParams:
        return ProtocolParams(**self.model_dump(include=set(ProtocolParams.model_fields)))

    def variant(self, name: str) -> ProtocolParams:
        """The protocol with what the variant of that name changes."""
        return ProtocolParams.model_validate(self.protocol.model_dump() | self.variants[name])

    @model_validator(mode="after")
    def _variants_are_protocols(self) -> "ScoreParams":
        for name in self.variants:
            try:
                self.variant(name)
            except ValidationError as error:
                raise ValueError(f"variants.{name}.{faults_of(error)}") from None
        return self


class ReportParams(Section):
    gallery_images: Count
    browser_images: Annotated[int, Field(ge=0)]


class ShortcutRule(Section):
    """When a place beside the evidence is called a shortcut."""

    followed: Fraction
    accuracy_drop: Fraction
    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    min_images: Annotated[int, Field(ge=2)]


class FindingsParams(Section):
    """The rules by which the study's claims are answered: measure -> threshold for each claim."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    test: Literal["permutation", "wilcoxon"]
    min_images: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=100)]
    model: Annotated[str, Field(min_length=1)]
    method: MethodName
    scattered_method: MethodName
    F1: dict[Literal["insertion_gain", "deletion_gain", "pointing_game", "mass_ratio"], float] = Field(min_length=1)
    F2: dict[Literal["pointing_game", "mass_ratio", "shared_variance"], float] = Field(min_length=1)
    F3: dict[Literal["gini"], float] = Field(min_length=1)
    F4: dict[Literal["pointing_game", "mass_ratio"], float] = Field(min_length=1)
    S1: ShortcutRule


class Params(Section):
    """All of params.yaml."""

    study: StudyParams
    datasets: dict[str, DatasetParams]
    phantom: PhantomParams
    preprocess: PreprocessParams
    models: dict[str, ModelParams]
    pretraining: PretrainingParams
    finetune: FinetuneParams
    explain: ExplainParams
    score: ScoreParams
    report: ReportParams
    findings: FindingsParams

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


def faults_of(error: ValidationError) -> str:
    """Every fault by its full key, on one line."""
    return "; ".join(_describe(fault) for fault in error.errors())


def _refuse_unknown(key: str, names: tuple[str, ...], known: dict[str, object] | dict) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{key}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    if len(set(names)) < len(names):
        raise ValueError(f"{key}: a name stands twice")


def _describe(fault: Mapping[str, Any]) -> str:
    # Where a value may be a number or a word, pydantic ends the place with the kind it tried.
    key = ".".join(str(part) for part in fault["loc"] if not KIND.fullmatch(str(part)))
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if fault["type"] in ("value_error", "missing"):
        return f"{key}: {message}" if key else message
    return f"{key}: {message} (got {fault['input']!r})"
