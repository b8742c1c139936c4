"""Versions judged by the policy: who meets every condition, and in what order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from pipeline.params import Condition, PromotionParams
from pipeline.params.promotion import Quantity
from pipeline.promotion.comparability import comparable
from pipeline.promotion.decision import Candidate, Decision, Judged
from pipeline.promotion.measurement import Measurement, Resampling
from pipeline.promotion.measuring import measured
from pipeline.promotion.registered import Registered, Unusable


@dataclass(frozen=True)
class Policy:
    """The section `promotion` for one dataset, and the seed of the study for its intervals."""

    dataset: str
    params: PromotionParams
    seed: int

    @property
    def resampling(self) -> Resampling:
        return Resampling(self.seed, self.params.resamples)


def decide(model_name: str, versions: Sequence[Registered | Unusable], policy: Policy) -> Decision:
    """Judges every version that can be, in comparison with the one that `comparability` takes as reference.

    Raises:
        StudyError: a condition names a slice that the dataset does not have.
    """
    judged, left_out = comparable(versions)
    return Decision(
        dataset=policy.dataset,
        model_name=model_name,
        min_images=policy.params.min_images,
        candidates=_ordered([_candidate(version, policy) for version in judged]),
        left_out=tuple(sorted(left_out, key=lambda each: int(each.version))),
    )


def judge(version: Registered, condition: Condition, policy: Policy) -> Judged:
    """Bounds are met by the value; a lead by its whole interval."""
    found = measured(version, condition, policy.resampling)
    fault = _fault(found, condition, policy.params.min_images)
    why_not = f"{named(condition)}: {fault}" if fault else ""
    return Judged(condition=condition, measured=found, passed=not fault, why_not=why_not)


def named(quantity: Quantity) -> str:
    """`test/accuracy (class=malignant)`, `gradcam/pointing_game over chance`."""
    over = f" over {quantity.better_than}" if quantity.better_than else ""
    return f"{quantity.metric}{over}" + ("" if quantity.slice == "all" else f" ({quantity.slice})")


def mean_ranks(values: Sequence[Sequence[float | None]]) -> list[float]:
    """Of each row of values, the mean over columns of its rank, 1 for the highest; nothing measured comes last."""
    table = np.array([[-np.inf if value is None else value for value in row] for row in values], dtype=float)
    return [float(rank) for rank in rankdata(-table, axis=0).mean(axis=1)]


def _fault(found: Measurement, condition: Condition, min_images: int) -> str:
    if found.value is None:
        return "not measured"
    if found.images < min_images:
        return f"measured on {found.images} images, {min_images} are needed"
    if condition.at_least is not None and found.value < condition.at_least:
        return f"{found.value:.3f} is below {condition.at_least:g}"
    if condition.at_most is not None and found.value > condition.at_most:
        return f"{found.value:.3f} is above {condition.at_most:g}"
    if condition.better_than and (found.low is None or found.low <= 0):
        return f"{found.value:+.3f} is no sure lead, its interval begins at {found.low or 0:.3f}"
    return ""


def _candidate(version: Registered, policy: Policy) -> Candidate:
    conditions = policy.params.of_dataset(policy.dataset)
    ranking = {name: measured(version, Quantity(metric=name), policy.resampling) for name in policy.params.ranking}
    return Candidate(
        version=version.version.number,
        model=version.version.model,
        checkpoint_sha256=version.version.checkpoint_sha256,
        evidence_sha256=version.version.evidence_sha256,
        split_sha256=version.version.split_sha256,
        conditions=tuple(judge(version, condition, policy) for condition in conditions),
        ranking=ranking,
    )


def _ordered(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that pass by mean rank, ties by the first metric and then the newer version; the others newest first."""
    newest_first = sorted(candidates, key=lambda each: -int(each.version))
    passing = [each for each in newest_first if each.passed]
    if not passing:
        return tuple(newest_first)
    values = [[found.value for found in each.ranking.values()] for each in passing]
    ranks, first = mean_ranks(values), mean_ranks([row[:1] for row in values])
    ranked = [each.model_copy(update={"mean_rank": rank}) for each, rank in zip(passing, ranks, strict=True)]
    order = sorted(range(len(ranked)), key=lambda place: (ranks[place], first[place]))
    return (*(ranked[place] for place in order), *(each for each in newest_first if not each.passed))
