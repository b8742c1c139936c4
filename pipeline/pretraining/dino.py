"""DINO: a student learns, without labels, what a slowly following teacher says of other views of the same image.

Caron et al., arXiv 2104.14294. Loss, centring, sharpening, head and the teacher's average are lightly's. One thing is
ours: each set of the corpus has its own centre. Cells and ultrasound differ so plainly that with one centre for all the
network learned to tell the two apart and nothing else (log 2 nats of information, nearest neighbours worse than those
of random weights); a centre of its own makes every set spread over all outputs.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from lightly.loss.dino_loss import DINOLoss
from lightly.models.modules.heads import DINOProjectionHead
from lightly.models.utils import update_momentum
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from pipeline.errors import StudyError
from pipeline.models.build import Classifier, build_classifier
from pipeline.models.weights import FROM_SCRATCH
from pipeline.params import DinoParams, ModelParams
from pipeline.pretraining.corpus import Corpus
from pipeline.pretraining.crops import GLOBAL_VIEWS, Cropper, MultiCropBatch, ViewBatch
from pipeline.pretraining.probes import in_batches, knn_accuracy, probe
from pipeline.pretraining.recipe import Recipe, Run
from pipeline.seeds import cell_seed
from pipeline.training.batches import load_batches

FROZEN_EPOCHS = 1  # in which the head's last layer stays as it is, as in the authors' code

# Nats that the teacher's output tells about which image it saw; below, it says the same of every image. A healthy
# training of the embedded study has passed 0.5 after its first epoch, a collapsed one stands at less than 0.001.
COLLAPSED = 0.02
SETTLED_STEPS = 200  # before, a fresh head says nearly the same of every image


class Network(nn.Module):
    """A backbone without head, and DINO's projection head on it."""

    def __init__(self, classifier: Classifier, head: DINOProjectionHead) -> None:
        super().__init__()
        self.classifier, self.head = classifier, head

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n outputs"]:
        return self.head(self.classifier(images)).float()


class SelfDistillation(nn.Module):
    """Student, teacher, and for each set of the corpus the loss that keeps its centre."""

    def __init__(self, student: Network, teacher: Network, losses: Sequence[DINOLoss]) -> None:
        super().__init__()
        self.student, self.teacher, self.losses = student, teacher.requires_grad_(False), nn.ModuleList(losses)

    def train(self, mode: bool = True) -> "SelfDistillation":
        """The teacher never drops a path."""
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def centers(self) -> list[Float[Tensor, "1 outputs"]]:
        """What is taken off the teacher's outputs, for each set."""
        return [loss.get_buffer("center")[0] for loss in self.losses]

    def forward(self, batch: ViewBatch, set_numbers: Int64[Tensor, " n"], device: torch.device) -> Float[Tensor, ""]:
        """Mean over the images of the cross-entropy between teacher and student on different views."""
        large, views = batch.global_views.to(device), GLOBAL_VIEWS
        with torch.no_grad():
            taught = self.teacher(large).chunk(views)
        learned = list(self.student(large).chunk(views))
        if len(batch.local_views):
            small = batch.local_views.to(device)
            learned += self.student(small).chunk(len(small) // len(batch.rows))
        parts = []
        for number, loss in enumerate(self.losses):
            chosen = set_numbers == number
            if chosen.any():
                share = chosen.float().mean()
                parts.append(share * loss([view[chosen] for view in taught], [view[chosen] for view in learned]))
        return torch.stack(parts).sum()


@dataclass(frozen=True)
class Dino:
    """An Objective, see `pipeline.training.loop`."""

    module: SelfDistillation
    corpus: Corpus
    croppers: tuple[Cropper, ...]
    params: DinoParams
    run: Run
    steps: int  # of the whole training
    watched: str | None = None

    def batches(self, epochs: range) -> Generator[ViewBatch, None, None]:
        wanted = self.run.wanted(self.corpus, epochs, self.params.batch_size)
        make = MultiCropBatch(self.corpus, self.croppers)
        return load_batches(make, wanted, self.params.workers, self.run.device)

    def loss(self, batch: ViewBatch, epoch: int) -> Float[Tensor, ""]:
        self.module.student.head.last_layer.weight_v.requires_grad_(epoch > FROZEN_EPOCHS)
        set_numbers = torch.from_numpy(self.corpus.place(batch.rows)[0]).to(self.run.device)
        return self.module(batch, set_numbers, self.run.device)

    def after_step(self, step: int) -> None:
        """The teacher follows, ever more slowly."""
        momentum = cosine_schedule(step, self.steps, self.params.teacher_momentum, 1.0)
        update_momentum(self.module.student, self.module.teacher, momentum)

    def measure(self, epoch: int, batches: Iterator[ViewBatch]) -> dict[str, float]:
        """
        Raises:
            StudyError: the training has collapsed.
        """
        told = [self._information(number) for number in range(len(self.corpus.sets))]
        settled = self.steps * epoch / self.params.epochs >= min(SETTLED_STEPS, self.steps)
        if settled and min(told) < COLLAPSED:
            name = self.corpus.about[told.index(min(told))].dataset
            raise StudyError(collapse_message(name, epoch, min(told), self.params.outputs))
        device, classifier = self.run.device, self.module.teacher.classifier
        knn = probe(classifier, self.corpus, "test", "validation", device, {"knn_accuracy": knn_accuracy})
        measures = {"information": float(np.mean(told))}
        if knn:
            measures["knn_accuracy"] = float(np.mean([found["knn_accuracy"] for found in knn.values()]))
        return measures

    def _information(self, number: int) -> float:
        """What the teacher's output tells about which validation image of one set it saw, in nats."""
        rows, center = self.corpus.rows("validation"), self.module.centers[number].cpu()
        rows = rows[self.corpus.place(rows)[0] == number]
        outputs = in_batches(self.module.teacher, self.corpus, rows, self.run.device)
        return information(((outputs - center) / self.params.teacher_temperature).softmax(dim=1))

    def files(self, rows: Int64[np.ndarray, " n"]) -> Sequence[str]:
        return self.corpus.files(rows)


def information(probabilities: Float[Tensor, "n outputs"]) -> float:
    """Mutual information of image and output in nats: 0 if the output is the same for all, log n if each has its own.

    Entropy of the mean output less mean entropy of the outputs, so both ways to collapse show: one output for all
    images, and all outputs equally likely for each.
    """
    return (_entropy(probabilities.mean(dim=0)) - _entropy(probabilities).mean()).item()


def _entropy(probabilities: Float[Tensor, "*n outputs"]) -> Float[Tensor, "*n"]:
    return torch.special.entr(probabilities).sum(dim=-1)


def collapse_message(name: str, epoch: int, told: float, outputs: int) -> str:
    return (
        f"pretraining.dino: collapsed in epoch {epoch}: the teacher says the same of every image of {name} "
        f"({told:.4f} of at most {np.log(outputs):.1f} nats about which one it saw), so nothing is being learned and "
        "no weights are written; lower learning_rate or teacher_temperature, or raise teacher_momentum"
    )


def build_dino(corpus: Corpus, model: ModelParams, params: DinoParams, run: Run) -> Recipe:
    """
    Raises:
        StudyError: the model cannot be built, or takes no images of other sizes.
    """
    student, teacher = (_build_network(corpus, model, params, run) for _ in range(2))
    teacher.load_state_dict(student.state_dict())
    losses = [
        DINOLoss(
            params.outputs,
            teacher_temp=params.teacher_temperature,
            student_temp=params.student_temperature,
            center_momentum=params.center_momentum,
        )
        for _ in corpus.sets
    ]
    module = SelfDistillation(student, teacher, losses).to(run.device)
    croppers = tuple(Cropper(params.views, one, corpus.image_size_px, run.seed) for one in corpus.about)
    steps = params.epochs * -(-len(corpus.rows("train")) // params.batch_size)
    return Recipe(Dino(module, corpus, croppers, params, run, steps), params, teacher.classifier)


def _build_network(corpus: Corpus, model: ModelParams, params: DinoParams, run: Run) -> Network:
    seed = cell_seed(run.seed, "weights")
    options = {**model.arch_options, "dynamic_img_size": True}  # small views make smaller grids
    classifier = build_classifier(model.arch, options, FROM_SCRATCH, 0, corpus.image_size_px, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = DINOProjectionHead(
            classifier.backbone.num_features, params.head_width, params.bottleneck_width, params.outputs
        )
    return Network(classifier, head)
