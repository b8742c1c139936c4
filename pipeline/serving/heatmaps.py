"""Heatmaps for served predictions: an attribution for each image, and its overlay as a PNG that says what made it."""

import copy
from dataclasses import dataclass
from io import BytesIO
from threading import Lock

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import nn

from pipeline.data.prepared import to_tensor
from pipeline.explain import METHODS, explain
from pipeline.explain.public import DEFAULTS
from pipeline.models.build import Classifier
from pipeline.models.family import family_of
from pipeline.params import MethodParams
from pipeline.records import Explanation, HeatmapLineage
from pipeline.report.overlays import RUN_LENGTH, draw_heatmap, png_text

OVERLAY_PX = 448  # longest side of an overlay


@dataclass(frozen=True)
class Explainer:
    """Explains on modules of its own, so that predictions never meet its hooks and flags and need not wait for it.

    One image at a time: a map then does not depend on what else is in the batch, down to the last bit, clients take
    turns image by image, and there are activations and gradients of one image however many ask.
    """

    classifier: Classifier
    settings: MethodParams
    lock: Lock

    def attribution(self, image: UInt8[np.ndarray, "s s 3"], method: str, target: int) -> Float32[np.ndarray, "h w"]:
        """On the method's native grid."""
        options = self.settings.model_dump()
        with self.lock:
            return explain(self.classifier, to_tensor(image[None]), (method,), [target], **options)[method][0].numpy()


def explainer_of(classifier: Classifier, settings: MethodParams) -> Explainer:
    return Explainer(weight_sharing_copy(classifier), settings, Lock())


def settings_of(explanation: Explanation) -> MethodParams:
    """What the methods were told when the study explained the model: a served heatmap is one that was scored."""
    return MethodParams.model_validate(DEFAULTS | explanation.settings)


def weight_sharing_copy(classifier: Classifier) -> Classifier:
    """The same model as other modules over the same memory."""
    tensors = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in classifier.parameters()}
    return copy.deepcopy(classifier, {**tensors, **{id(buffer): buffer for buffer in classifier.buffers()}})


def fitting_methods(classifier: Classifier, settings: MethodParams) -> tuple[str, ...]:
    """The methods that can explain this model."""
    family = family_of(classifier.backbone, settings.cam_layer)
    return tuple(name for name, method in METHODS.items() if method.refusal(family, settings) is None)


def overlay_png(picture: Image.Image, attribution: Float32[np.ndarray, "h w"], lineage: HeatmapLineage) -> bytes:
    """The heatmap over the picture, in the picture's aspect."""
    square = Image.fromarray(draw_heatmap(np.asarray(picture), attribution, OVERLAY_PX))
    scale = OVERLAY_PX / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    held = BytesIO()
    square.resize((width, height), Image.Resampling.LANCZOS).save(
        held, "PNG", compress_level=1, compress_type=RUN_LENGTH, pnginfo=png_text(lineage)
    )
    return held.getvalue()
