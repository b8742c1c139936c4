"""Hard-label distillation: the loss by hand, the teacher left alone, and what it is refused for."""

import math

import pytest
import torch
from torch import nn

from pipeline.errors import StudyError
from pipeline.models.build import Classifier
from pipeline.params import AugmentationParams, DistilledParams, ModelParams, TeacherParams
from pipeline.pretraining.distilled import HardDistillation, build_distilled
from pipeline.pretraining.recipe import Run
from tests.models.tiny import ARCHITECTURES
from tests.pretraining.worlds import make_corpus

CPU = torch.device("cpu")
PARAMS = DistilledParams(
    epochs=2, warmup_epochs=1, batch_size=7, learning_rate=1e-3, weight_decay=0.05, gradient_clip=1.0, precision="fp32",
    workers=0, label_smoothing=0.1,
    augmentation=AugmentationParams(flip=True, quarter_turns=True, rotate_degrees=0, scale=0, brightness=0, hue=0),
    teacher=TeacherParams(arch="test_byobnet", epochs=3, learning_rate=3e-3),
)  # fmt: skip


class Fixed(nn.Module):
    """A network that says the same of every image."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return self.outputs


def as_classifier(outputs):
    return Classifier(Fixed(outputs), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def recipe_of(tmp_path, model="deit", **changes):
    arch, options = ARCHITECTURES[model]
    plan = ModelParams(arch=arch, arch_options=options, weights="none", learning_rate=1e-3)
    run = Run(0, CPU, tmp_path / "state", "key")
    return build_distilled(make_corpus(tmp_path), plan, PARAMS.model_copy(update=changes), run)


def test_half_the_loss_is_the_labels_and_half_the_teachers_choice():
    even, teacher = torch.zeros(1, 2), torch.tensor([[0.0, 1.0]])
    sure = torch.tensor([[math.log(1 / 4), math.log(3 / 4)]])  # of what the teacher chooses
    criterion = HardDistillation(as_classifier(teacher), label_smoothing=0.0)
    loss = criterion(as_classifier((even, sure)), torch.zeros(1, 3, 8, 8), torch.tensor([0]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_the_distillation_token_is_not_told_the_label():
    teacher = as_classifier(torch.tensor([[0.0, 1.0]]))
    tokens = [torch.zeros(1, 2, requires_grad=True) for _ in range(2)]
    HardDistillation(teacher, 0.0)(as_classifier(tuple(tokens)), torch.zeros(1, 3, 8, 8), torch.tensor([0])).backward()
    assert tokens[0].grad[0, 0] < 0 < tokens[0].grad[0, 1]  # the class token towards the label
    assert tokens[1].grad[0, 1] < 0 < tokens[1].grad[0, 0]  # the other one towards the teacher


def test_the_teacher_is_a_trained_convolutional_network_and_stays_as_it_is(tmp_path):
    recipe = recipe_of(tmp_path)
    teacher = recipe.objective.criterion.teacher
    assert any(isinstance(module, nn.Conv2d) for module in teacher.modules())
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    recipe.objective.module.train()
    recipe.objective.loss(next(iter(recipe.objective.batches(range(1, 2)))), 1).backward()
    assert not teacher.training
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_a_finished_teacher_is_not_trained_again(tmp_path):
    first = recipe_of(tmp_path / "a").objective.criterion.teacher
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "state").rename(tmp_path / "b" / "state")
    state = tmp_path / "b" / "state" / "teacher.safetensors"
    stamp = state.stat().st_mtime_ns
    second = recipe_of(tmp_path / "b").objective.criterion.teacher
    assert state.stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_model_without_the_token_is_refused(tmp_path):
    with pytest.raises(StudyError, match="arch: vit_tiny_patch16_224 has no distillation token"):
        recipe_of(tmp_path, "vit")


def test_an_unknown_teacher_is_refused(tmp_path):
    teacher = PARAMS.teacher.model_copy(update={"arch": "resnet_of_tomorrow"})
    with pytest.raises(StudyError, match=r"pretraining\.distilled\.teacher\.arch: timm has no resnet_of_tomorrow"):
        recipe_of(tmp_path, teacher=teacher)
