"""Which study, on which images: sections `study`, `datasets`, `phantom` and `preprocess`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.errors import StudyError
from pipeline.params.section import Count, Fraction, Section


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


Text = Annotated[str, Field(min_length=1)]
ClassName = Annotated[str, Field(pattern=r"^\w[\w .-]*$")]  # it names folders, columns and MLflow's metrics


class DatasetParams(Section):
    """Where a set comes from and how it is judged. A key that is absent is not given; only an own set has most."""

    source: Text  # phantom | an https address | path of a folder, an archive or a MedMNIST file
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of the archive
    size_bytes: Count | None = None  # of the archive
    kind: Text | None = None  # a public set, folder or medmnist; absent: the public set of this name
    duplicate_distance: Annotated[int, Field(ge=0, le=16)]  # bits of 64; from 10 on unlike images meet
    overlap_correlation: Fraction | None = None  # absent: shifted cuts of one field are not sought
    curated: Text | None = None
    table: Text | None = None
    groups: Text | None = None
    masks: Text | None = None
    title: Text | None = None
    classes: tuple[ClassName, ...] = ()
    flips: tuple[Literal["horizontal", "vertical"], ...] = ()
    colour: bool = False
    evidence: Text = "finding"
    without_evidence: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    licence: Text | None = None
    citation: Text | None = None


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
