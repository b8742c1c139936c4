"""Both study methods beside pytorch-grad-cam and a plain rollout."""

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from benchmarks.models import classifier_of, draw_images
from benchmarks.rollout import plain_rollout
from benchmarks.timing import Figure, medians, speed
from pipeline.explain import explain_batch
from pipeline.explain.public import DEFAULTS
from pipeline.models.build import Classifier
from pipeline.params import MethodParams

METHODS = ("gradcam", "gradient_rollout")


def explaining(archs: tuple[str, ...], batch: int, rounds: int) -> Figure:
    """In total over the architectures."""
    times = [_times(arch, batch, rounds) for arch in archs]
    ours_s, theirs_s = (sum(each[who] for each in times) for who in ("ours", "theirs"))
    name = f"both study methods, {' and '.join(archs)}, 224 px, batch {batch}"
    return speed(name, "pytorch-grad-cam and a plain rollout", 2.5, ours_s, theirs_s)


def _times(arch: str, batch: int, rounds: int) -> dict[str, float]:
    given = (classifier_of(arch), draw_images(batch), torch.arange(batch) % 8)
    return medians({"ours": lambda: ours(*given), "theirs": lambda: theirs(*given)}, rounds)


def ours(classifier: Classifier, images: Tensor, targets: Tensor) -> object:
    return explain_batch(classifier, images, targets, METHODS, MethodParams(**DEFAULTS))


def theirs(classifier: Classifier, images: Tensor, targets: Tensor) -> object:
    def to_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].unflatten(1, classifier.backbone.patch_embed.grid_size).permute(0, 3, 1, 2)

    with GradCAM(classifier, [classifier.backbone.blocks[-1].norm1], reshape_transform=to_grid) as cam:
        maps = cam(images, [ClassifierOutputTarget(int(target)) for target in targets])
    return maps, plain_rollout(classifier, images, targets)
