"""DeiT's pre-training: a distillation token learns the class that a convolutional teacher predicts.

Hard-label distillation of Touvron et al., arXiv 2012.12877, equation 3: half the loss is the cross-entropy of the class
token with the label, half that of the distillation token with the teacher's most probable class, both for the same
augmented image. The teacher is trained first, on the same images.
"""

import logging
from dataclasses import dataclass, replace

import timm
import torch
from jaxtyping import Float, Int64
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor
from torch.nn import functional as F

from pipeline.errors import StudyError, errors_under
from pipeline.models.build import Classifier
from pipeline.models.weights import FROM_SCRATCH, normalisation
from pipeline.params import DistilledParams, ModelParams
from pipeline.pretraining.corpus import Corpus, refuse_unlabelled
from pipeline.pretraining.recipe import Recipe, Run, build_trainer
from pipeline.pretraining.supervised import cross_entropy_criterion, learn_labels, start_classifier
from pipeline.seeds import cell_seed
from pipeline.training.loop import fit
from pipeline.training.state import StateFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HardDistillation:
    """A Criterion, see `supervised`."""

    teacher: Classifier
    label_smoothing: float

    def __call__(
        self, student: Classifier, images: Float[Tensor, "n 3 s s"], labels: Int64[Tensor, " n"]
    ) -> Float[Tensor, ""]:
        with torch.no_grad():
            predicted = self.teacher(images).argmax(dim=1)
        of_class_token, of_distillation_token = student.backbone(student.normalise(images))
        soft = F.cross_entropy(of_class_token.float(), labels, label_smoothing=self.label_smoothing)
        return (soft + F.cross_entropy(of_distillation_token.float(), predicted)) / 2


def build_distilled(corpus: Corpus, model: ModelParams, params: DistilledParams, run: Run) -> Recipe:
    """The recipe of the student; its teacher is trained here.

    Raises:
        StudyError: a set has no labels, the model has no distillation token, or a model cannot be built.
    """
    refuse_unlabelled(corpus, "distilled")
    student = start_classifier(corpus, model, run)
    if not isinstance(student.backbone, VisionTransformerDistilled):
        raise StudyError(f"arch: {model.arch} has no distillation token; choose a deit_..._distilled architecture")
    student.backbone.set_distilled_training(True)  # in train mode it gives both tokens' logits
    criterion = HardDistillation(train_teacher(corpus, params, run), params.label_smoothing)
    return learn_labels(student, criterion, corpus, params, run)


def train_teacher(corpus: Corpus, params: DistilledParams, run: Run) -> Classifier:
    """A convolutional network that has learned the labels; taken from the state folder where it is finished already."""
    run = replace(run, seed=cell_seed(run.seed, "teacher"))
    own = params.teacher
    schedule = params.model_copy(update={"epochs": own.epochs, "learning_rate": own.learning_rate})
    teacher = _build_teacher(own.arch, corpus, run)
    recipe = learn_labels(teacher, cross_entropy_criterion(params.label_smoothing), corpus, schedule, run)
    state = StateFile(run.state_dir / "teacher.safetensors", run.key)
    with errors_under({"learning_rate": "teacher"}):
        course = fit(build_trainer(recipe.objective, schedule, corpus, run), state, lambda done, total: None)
    log.info("teacher %s: %s", own.arch, course.kept.measures)
    return teacher.eval().requires_grad_(False)


def _build_teacher(arch: str, corpus: Corpus, run: Run) -> Classifier:
    if not timm.is_model(arch):
        raise StudyError(f"pretraining.distilled.teacher.arch: timm has no {arch}; timm.list_models() lists them")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell_seed(run.seed, "weights"))
        backbone = timm.create_model(arch, num_classes=len(corpus.classes))
    return Classifier(backbone, *normalisation(arch, FROM_SCRATCH)).to(run.device)
