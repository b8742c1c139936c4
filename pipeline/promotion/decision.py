"""What a comparison of versions found, as data: every condition of every version, the ranks, and who was left out."""

from pydantic import BaseModel, ConfigDict

from pipeline.params import Condition
from pipeline.promotion.measurement import Measurement


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judged(Frozen):
    """A condition of the policy as one version meets it."""

    condition: Condition
    measured: Measurement
    passed: bool
    why_not: str  # empty where it passed


class Candidate(Frozen):
    """A version that was judged."""

    version: str
    model: str
    checkpoint_sha256: str
    evidence_sha256: str  # content hash of the run with its heatmaps and scores
    split_sha256: str  # of the test split
    conditions: tuple[Judged, ...]
    ranking: dict[str, Measurement]  # by metric
    mean_rank: float | None = None  # among those that pass all conditions

    @property
    def passed(self) -> bool:
        return all(judged.passed for judged in self.conditions)

    @property
    def why_not(self) -> str:
        """Every condition that it fails, on one line."""
        return "; ".join(judged.why_not for judged in self.conditions if not judged.passed)


class LeftOut(Frozen):
    """A version that cannot be judged, and why."""

    version: str
    model: str
    reason: str


class Decision(Frozen):
    """Candidates that pass, best first, then those that do not."""

    dataset: str
    model_name: str
    min_images: int
    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def passing(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.passed)
