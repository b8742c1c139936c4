"""DINO: its loss against a slow twin from the paper, the teacher's average by hand, and that a collapse is noticed."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import StudyError
from pipeline.params import DinoParams, ModelParams
from pipeline.pretraining.crops import ViewBatch
from pipeline.pretraining.dino import build_dino, collapse_message, information
from pipeline.pretraining.recipe import Run
from tests.models.tiny import ARCHITECTURES
from tests.pretraining.test_crops import VIEWS
from tests.pretraining.worlds import SCANS, make_corpus

CPU = torch.device("cpu")
PARAMS = DinoParams(
    epochs=2, warmup_epochs=1, batch_size=7, learning_rate=1e-3, weight_decay=0.04, gradient_clip=1.0, precision="fp32",
    workers=0, outputs=16, head_width=32, bottleneck_width=8, teacher_temperature=0.04, student_temperature=0.1,
    teacher_momentum=0.9, center_momentum=0.9, views=VIEWS,
)  # fmt: skip


def objective_of(tmp_path, model="dino", params=PARAMS, specs=()):
    arch, options = ARCHITECTURES[model]
    plan = ModelParams(arch=arch, arch_options=options, weights="none", learning_rate=1e-3)
    return build_dino(make_corpus(tmp_path, *specs), plan, params, Run(0, CPU, tmp_path, "key")).objective


@pytest.mark.parametrize("model", ["dino", "swin"])
def test_the_loss_is_that_of_the_paper(model, tmp_path):
    objective = objective_of(tmp_path, model)
    batch = next(iter(objective.batches(range(1, 2))))
    module = objective.module.eval()  # no paths dropped
    module.losses[0].center += torch.linspace(-0.2, 0.2, 16)
    expected = slow_loss(module, batch, objective.corpus.place(batch.rows)[0])
    set_numbers = torch.from_numpy(objective.corpus.place(batch.rows)[0])
    assert module(batch, set_numbers, CPU).item() == pytest.approx(expected, rel=1e-5)


def slow_loss(module, batch, set_numbers):
    """Equation 3 of arXiv 2104.14294, image by image and pair by pair of views."""
    n, losses = len(batch.rows), []
    views = [*batch.global_views.split(n), *batch.local_views.split(n)]
    for image, number in enumerate(set_numbers):
        terms = []
        center = module.losses[number].center.flatten()
        for taught in range(2):
            with torch.no_grad():
                p = ((module.teacher(views[taught][image : image + 1])[0] - center) / 0.04).softmax(0)
            for learned in range(len(views)):
                if learned != taught:
                    q = (module.student(views[learned][image : image + 1])[0] / 0.1).log_softmax(0)
                    terms.append(-(p * q).sum().item())
        losses.append(np.mean(terms))
    return np.mean(losses)


def test_the_teacher_stays_in_eval_mode(tmp_path):
    module = objective_of(tmp_path).module.train()
    assert module.student.training
    assert not any(part.training for part in module.teacher.modules())


def test_each_set_has_its_own_centre(tmp_path):
    objective = objective_of(tmp_path)
    rows = objective.corpus.rows("train")[:3]  # of the first set only
    views = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batch = ViewBatch(rows, views, torch.empty(0, 3, 0, 0))
    outputs = objective.module.teacher(views)
    objective.loss(batch, epoch=1)
    first, second = objective.module.centers
    torch.testing.assert_close(first[0], 0.1 * outputs.mean(dim=0))
    assert (second == 0).all()


def test_the_teacher_follows_the_student_ever_more_slowly(tmp_path):
    objective = objective_of(tmp_path)
    module, last = objective.module, objective.steps - 1
    weights = [network.classifier.backbone.blocks[0].mlp.fc1.weight for network in (module.student, module.teacher)]
    with torch.no_grad():
        weights[0].add_(1.0)
    started = weights[1].clone()
    objective.after_step(0)
    torch.testing.assert_close(weights[1], started + 0.1)
    at_first = weights[1].clone()
    objective.after_step(last)
    assert 0 <= (weights[1] - at_first).max() < 0.001


def test_only_the_student_learns_and_its_last_layer_waits_an_epoch(tmp_path):
    objective = objective_of(tmp_path)
    batch, module = next(iter(objective.batches(range(1, 2)))), objective.module
    for epoch, learns in ((1, False), (2, True)):
        module.zero_grad()
        objective.loss(batch, epoch).backward()
        assert all(parameter.grad is None for parameter in module.teacher.parameters())
        assert (module.student.head.last_layer.weight_v.grad is not None) is learns
        assert module.student.classifier.backbone.pos_embed.grad.abs().max() > 0


def test_information_by_hand():
    each_its_own = torch.eye(4)
    assert information(each_its_own) == pytest.approx(math.log(4))
    assert information(torch.tensor([[1.0, 0, 0, 0]] * 4)) == 0  # one output for all images
    assert information(torch.full((4, 4), 0.25)) == pytest.approx(0, abs=1e-6)  # all outputs for each image
    assert information(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])) == pytest.approx(math.log(2))


def test_a_healthy_start_is_measured_without_labels_too(tmp_path):
    objective = objective_of(tmp_path, specs=(SCANS,))
    measures = objective.measure(1, iter(()))
    assert set(measures) == {"information"}
    assert measures["information"] > 0.02


def collapsed(tmp_path):
    objective = objective_of(tmp_path)
    with torch.no_grad():
        for parameter in objective.module.teacher.classifier.parameters():
            parameter.zero_()  # so that every image has the same features
    return objective


def test_the_first_steps_of_a_longer_training_may_look_collapsed(tmp_path):
    objective = replace(collapsed(tmp_path), steps=1000, params=PARAMS.model_copy(update={"epochs": 100}))
    assert objective.measure(19, iter(()))["information"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(StudyError, match="collapsed in epoch 20"):
        objective.measure(20, iter(()))


@pytest.mark.parametrize("how", ["one output for all images", "all outputs for each image"])
def test_a_collapse_is_said_in_words(how, tmp_path):
    objective = collapsed(tmp_path)
    with torch.no_grad():
        if how == "all outputs for each image":
            objective.module.teacher.head.last_layer.weight_v.copy_(torch.ones(16, 8))
    with pytest.raises(
        StudyError, match=r"pretraining\.dino: collapsed in epoch 3: the teacher says the same of every"
    ):
        objective.measure(3, iter(()))


def test_the_message_tells_what_to_do():
    assert "no weights are written; lower learning_rate" in collapse_message("busi", 3, 0.0, 512)
