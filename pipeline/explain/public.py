"""`explain`: any timm model of the known families and a batch of images in, maps out."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.device import in_batches_that_fit
from pipeline.errors import StudyError
from pipeline.explain.registry import check_methods, explain_batch
from pipeline.models.build import Classifier, as_classifier
from pipeline.models.family import family_of
from pipeline.models.inputs import check_images, checked_targets
from pipeline.params import MethodParams, faults_of

DEFAULTS: dict[str, Any] = {  # as published; a test holds them to params/paper.yaml
    "cam_layer": "auto",
    "rollout_mode": "corrected",
    "discard_ratio": 0.9,
    "head_fusion": "mean",
    "residual_scaling": "none",
    "integrated_gradients_steps": 32,
    "rise_masks": 4000,
}


def explain(
    model: nn.Module,
    images: Float[Tensor, "n 3 height width"],
    methods: Sequence[str] = ("gradcam", "gradient_rollout"),
    targets: Tensor | Sequence[int] | None = None,
    batch_size: int = 32,
    **options: Any,
) -> dict[str, Float[Tensor, "n _ _"]]:
    """Maps of each method on its native grid, [n, rows, columns], on the model's device; no image sees another.

    The model may be in train mode, frozen or in use elsewhere: it comes back exactly as it was.

    Args:
        model: from timm, or a Classifier; its normalisation is applied inside.
        images: RGB in [0, 1], of the size that the model was built for.
        methods: names in METHODS.
        targets: a class for each image; None explains the classes predicted.
        batch_size: images in memory at a time; halved where memory runs out.
        options: any key of MethodParams, such as `cam_layer="norm1"` or `discard_ratio=0.5`.

    Raises:
        StudyError: the model is not known, a method does not fit it, or images, targets or an option are not as above.
    """
    settings = _settings(options)
    classifier = as_classifier(model)
    family = family_of(classifier.backbone, settings.cam_layer)
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    check_methods(names, family, settings)
    check_images(images, family.image_px)
    classes = None if targets is None else checked_targets(targets, len(images), classifier.backbone)
    if batch_size < 1:
        raise StudyError(f"batch_size: {batch_size} is no number of images; choose 1 or more")
    return _in_batches(classifier, images, classes, names, settings, batch_size)


def _settings(options: dict[str, Any]) -> MethodParams:
    try:
        return MethodParams.model_validate(DEFAULTS | options)
    except ValidationError as error:
        raise StudyError(f"options: {faults_of(error)}") from None


def _in_batches(
    classifier: Classifier,
    images: Float[Tensor, "n 3 height width"],
    targets: Int64[Tensor, " n"] | None,
    names: Sequence[str],
    settings: MethodParams,
    batch_size: int,
) -> dict[str, Float[Tensor, "n _ _"]]:
    device = next(classifier.parameters()).device
    classifier.to(device)  # a normalisation that was just put in front is still on the CPU

    def maps_of(batch: slice) -> dict[str, Float[Tensor, "m _ _"]]:
        asked = None if targets is None else targets[batch].to(device)
        return explain_batch(classifier, images[batch].to(device), asked, names, settings)

    parts = list(in_batches_that_fit(maps_of, len(images), batch_size))
    return {name: torch.cat([part[name] for part in parts]) for name in names}
