"""How models are explained, scored and judged: sections `explain`, `score`, `report` and `findings`."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from pipeline.params.section import Count, Fraction, Section, faults_of

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
