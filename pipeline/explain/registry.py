"""METHODS: the explanations there are. A new one is one function, one line here and its name in `pipeline.params`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float, Int64
from torch import Tensor

from pipeline.errors import StudyError
from pipeline.explain.capture import Captured, capture
from pipeline.explain.carry import windows_refusal
from pipeline.explain.gradcam import gradcam, hirescam, layercam, signed_gradcam
from pipeline.explain.integrated_gradients import integrated_gradients
from pipeline.explain.legrad import legrad
from pipeline.explain.rise import rise
from pipeline.explain.rollout import (
    attention_rollout,
    cam_rollout,
    chefer,
    gradient_rollout,
    raw_attention,
    rollout_refusal,
)
from pipeline.models.build import Classifier
from pipeline.models.family import Family, family_of
from pipeline.params import MethodParams


@dataclass(frozen=True)
class Question:
    """What is to be explained: why the classifier gives each image its target; None asks of the predicted classes."""

    classifier: Classifier
    images: Float[Tensor, "n 3 height width"]
    asked: Int64[Tensor, " n"] | None
    settings: MethodParams

    @cached_property
    def captured(self) -> Captured:
        """The one pass that most methods share; it runs when the first of them is computed."""
        return capture(self.classifier, self.images, self.asked, self.settings.cam_layer)

    @property
    def targets(self) -> Int64[Tensor, " n"]:
        return self.captured.targets if self.asked is None else self.asked


Refusal = Callable[[Family, MethodParams], str | None]  # why a family cannot be explained so, or None


@dataclass(frozen=True)
class Method:
    title: str
    explain: Callable[[Question], Float[Tensor, "n h w"]]  # maps on the method's native grid
    refusal: Refusal = lambda family, settings: None


def _windows(family: Family, settings: MethodParams) -> str | None:
    return windows_refusal(family)


METHODS: dict[str, Method] = {
    # From the one captured pass.
    "gradcam": Method("Grad-CAM", lambda q: gradcam(q.captured)),
    "signed_gradcam": Method("Signed Grad-CAM", lambda q: signed_gradcam(q.captured)),
    "hirescam": Method("HiResCAM", lambda q: hirescam(q.captured)),
    "layercam": Method("LayerCAM", lambda q: layercam(q.captured)),
    "gradient_rollout": Method(
        "Gradient Attention Rollout", lambda q: gradient_rollout(q.captured, q.settings), rollout_refusal
    ),
    "cam_rollout": Method("CAM Rollout", lambda q: cam_rollout(q.captured, q.settings), _windows),
    "chefer": Method("Generic attention (Chefer)", lambda q: chefer(q.captured), _windows),
    "attention_rollout": Method("Attention Rollout", lambda q: attention_rollout(q.captured), _windows),
    "raw_attention": Method("Last attention", lambda q: raw_attention(q.captured), _windows),
    # With passes of their own.
    "legrad": Method("LeGrad", lambda q: legrad(q.classifier, q.images, q.targets), _windows),
    "integrated_gradients": Method(
        "Integrated Gradients",
        lambda q: integrated_gradients(q.classifier, q.images, q.targets, q.settings.integrated_gradients_steps),
    ),
    "rise": Method("RISE", lambda q: rise(q.classifier, q.images, q.targets, q.settings.rise_masks)),
}


def get(name: str) -> Method:
    """The method called `name`.

    Raises:
        StudyError: there is none; the known names are listed.
    """
    if name not in METHODS:
        raise StudyError(f"explain.methods: unknown method {name}; choose from {', '.join(METHODS)}")
    return METHODS[name]


def check_methods(names: Sequence[str], family: Family, settings: MethodParams) -> None:
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
    targets: Int64[Tensor, " n"] | None,
    names: Sequence[str],
    settings: MethodParams,
) -> dict[str, Float[Tensor, "n _ _"]]:
    """Maps of every method named, on native grids; what one forward and one backward pass give is taken from one.

    Args:
        targets: the classes explained; None takes those predicted.

    Raises:
        StudyError: a method is unknown or does not fit the model, or see `capture`.
    """
    family = family_of(classifier.backbone, settings.cam_layer)
    check_methods(names, family, settings)
    question = Question(classifier, images, targets, settings)
    return {name: METHODS[name].explain(question) for name in names}
