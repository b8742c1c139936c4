"""METHODS: the explanations the study knows, each plain arithmetic on what one captured pass returns.

A new method is one function `Captured -> maps` and one line here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.explain.capture import Captured, capture
from pipeline.explain.gradcam import gradcam
from pipeline.explain.rollout import RolloutSettings, gradient_rollout, rollout_refusal
from pipeline.models.build import Classifier
from pipeline.models.family import Family, family_of


@dataclass(frozen=True)
class Method:
    title: str
    attribute: Callable[[Captured, RolloutSettings], Float[Tensor, "n h w"]]  # maps on the method's native grid
    refusal: Callable[[Family, RolloutSettings], str | None]  # why a family cannot be explained so, or None


METHODS: dict[str, Method] = {
    "gradcam": Method("Grad-CAM", lambda captured, _: gradcam(captured), lambda *_: None),
    "gradient_rollout": Method("Gradient Attention Rollout", gradient_rollout, rollout_refusal),
}


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        StudyError: there is none; the known names are listed.
    """
    if name not in METHODS:
        raise StudyError(f"explain.methods: unknown method {name}; choose from {', '.join(METHODS)}")
    return METHODS[name]


def check_methods(names: Sequence[str], family: Family, settings: RolloutSettings) -> None:
    """Refuse, before anything runs, a name that is unknown or a method that does not fit the family.

    Raises:
        StudyError: with the method's own reason.
    """
    for name in names:
        if reason := get(name).refusal(family, settings):
            raise StudyError(f"explain.methods: {name} cannot explain this {family.title}: {reason}")


def explain_batch(
    classifier: Classifier,
    images: Float[Tensor, "n 3 height width"],
    targets: Int64[Tensor, " n"],
    names: Sequence[str],
    settings: RolloutSettings,
) -> dict[str, Float[Tensor, "n _ _"]]:
    """Maps of every method named, on native grids, all from one forward and one backward pass.

    Raises:
        StudyError: a method is unknown or does not fit the model, or see `capture`.
    """
    check_methods(names, family_of(classifier.backbone), settings)
    captured = capture(classifier, images, targets)
    return {name: METHODS[name].attribute(captured, settings) for name in names}
