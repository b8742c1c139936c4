"""How models are made: sections `models`, `pretraining` and `finetune`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.params.section import Count, Fraction, NotNegative, Positive, Section


class ModelParams(Section):
    arch: Annotated[str, Field(min_length=1)]
    arch_options: dict[str, int | float | str | bool | tuple[int, ...]]
    weights: Annotated[str, Field(min_length=1)]
    weights_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of the file; absent: unchecked
    learning_rate: Positive

    @model_validator(mode="after")
    def _there_is_a_file_to_check(self) -> "ModelParams":
        if self.weights == "none" and self.weights_sha256:
            raise ValueError("weights_sha256 is given, but weights: none reads no file; remove one of them")
        return self


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
    processes: Count
    compile: bool
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
