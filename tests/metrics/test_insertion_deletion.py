"""The public face: any timm model, the engine's own protocol, the model left as it was, bad input told."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor

from pipeline.device import peak_bytes
from pipeline.errors import StudyError
from pipeline.metrics import InsertionDeletion, insertion_deletion
from pipeline.metrics.faithfulness import auc, saliency_ranks, see, upsampled
from pipeline.metrics.prediction import scoring
from pipeline.metrics.substrates import NAMES, blur
from tests.metrics.courses import perturbation_curves
from tests.models.tiny import MODELS, SIDE_PX, build, draw_images

import timm  # isort: skip


def maps_of(count: int, grid: int = 4) -> Tensor:
    return torch.rand(count, grid, grid, generator=torch.Generator().manual_seed(2))


def sharpened(model: str):
    """Scores of an untrained head hardly move: a larger one makes curves of them."""
    classifier = build(model)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(2 if parameter.ndim > 1 else 1)
    return classifier


@pytest.mark.parametrize("model", MODELS)
def test_scores_are_those_of_the_engine(model: str):
    classifier, images, maps = sharpened(model).eval(), draw_images(3), maps_of(3)
    scores = insertion_deletion(classifier, images, maps, steps=16)
    with scoring(classifier, "fp32") as predict:
        full, blurred = see(predict, images, 8), see(predict, blur(images), 8)
        ranks = saliency_ranks(upsampled(maps, (SIDE_PX, SIDE_PX)))
        curves = perturbation_curves(predict, blurred, full, ranks, scores.targets, 16, 5)
    assert torch.equal(scores.targets, full.probabilities.argmax(1))
    assert torch.allclose(scores.insertion_auc, auc(curves), atol=1e-6)
    assert torch.allclose(scores.probability_full, curves[:, -1], atol=1e-6)
    assert scores.passes == 3 * (2 * 17 - 1)
    assert scores.settings.steps == 16


def test_a_plain_timm_model_in_train_mode_is_scored_in_evaluation_and_given_back():
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3)
    model.train()
    model.blocks[0].eval()
    flags = [module.training for module in model.modules()]
    images = draw_images()
    first, again = (insertion_deletion(model, images, maps_of(2), steps=4) for _ in range(2))
    assert torch.equal(first.deletion_auc, again.deletion_auc)
    assert [module.training for module in model.modules()] == flags


def test_attention_is_fused_while_scoring_and_as_before_after_an_exception():
    classifier = build("swin")
    blocks = [module for module in classifier.modules() if hasattr(module, "fused_attn")]
    before = [block.fused_attn for block in blocks]

    def fail_inside() -> None:
        with scoring(classifier, "fp32"):
            assert all(block.fused_attn for block in blocks)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_inside()
    assert [block.fused_attn for block in blocks] == before
    assert classifier.training


def same(one: InsertionDeletion, other: InsertionDeletion) -> bool:
    pairs = zip((one.insertion_auc, one.deletion_auc), (other.insertion_auc, other.deletion_auc), strict=True)
    return all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("steps", [8, "adaptive"])
def test_the_batch_size_changes_nothing(steps):
    classifier, images, maps = sharpened("vit"), draw_images(3), maps_of(3)
    every = [insertion_deletion(classifier, images, maps, steps=steps, batch_size=size) for size in (1, 7, "auto")]
    assert same(every[0], every[1])
    assert same(every[0], every[2])


@pytest.mark.parametrize("steps", [8, "adaptive"])
def test_an_image_alone_has_the_scores_it_has_among_others(steps, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.metrics.maps.IMAGES_AT_A_TIME", 2)
    classifier, images, maps = sharpened("swin"), draw_images(3), maps_of(3)
    together = insertion_deletion(classifier, images, maps, steps=steps)
    for i in range(3):
        alone = insertion_deletion(classifier, images[i : i + 1], maps[i : i + 1], steps=steps)
        assert torch.allclose(alone.insertion_auc, together.insertion_auc[i : i + 1], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_substrate_serves_both_curves(name: str):
    scores = insertion_deletion(
        build("vit"), draw_images(), maps_of(2), targets=[0, 1], steps=3, substrates=(name, name)
    )
    assert torch.equal(scores.probability_insertion_substrate, scores.probability_deletion_substrate)
    assert scores.passes == 2 * (2 * 4 - 2)


def test_bf16_says_how_far_it_is_from_fp32():
    classifier, images, maps = sharpened("vit"), draw_images(), maps_of(2)
    exact = insertion_deletion(classifier, images, maps, steps=8)
    rough = insertion_deletion(classifier, images, maps, targets=exact.targets, steps=8, precision="bf16")
    assert exact.disagreement == 0
    assert 0 < rough.disagreement < 0.1
    assert (exact.deletion_auc - rough.deletion_auc).abs().max() <= 0.1


def test_order_unit_and_temperature_are_those_of_the_engine():
    classifier, images, maps = sharpened("vit"), draw_images(), maps_of(2)
    most = insertion_deletion(classifier, images, maps, targets=[0, 1], steps=16, unit_px=8)
    least = insertion_deletion(
        classifier, images, maps, targets=[0, 1], steps=16, unit_px=8, order="least_relevant_first"
    )
    negated = insertion_deletion(classifier, images, -maps, targets=[0, 1], steps=16, unit_px=8)
    assert torch.allclose(least.deletion_auc, negated.deletion_auc, atol=1e-6)
    assert not torch.allclose(most.deletion_auc, least.deletion_auc, atol=1e-4)
    cold = insertion_deletion(classifier, images, maps, targets=[0, 1], steps=16, temperature=1e6)
    assert torch.allclose(cold.insertion_auc, torch.tensor(1 / 3, dtype=torch.float64), atol=1e-4)
    assert most.settings.unit_px == 8


def test_progress_is_told_image_by_block(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.metrics.maps.IMAGES_AT_A_TIME", 2)
    told = []
    insertion_deletion(build("vit"), draw_images(5), maps_of(5), steps=2, progress=lambda *seen: told.append(seen))
    assert told == [(2, 5), (4, 5), (5, 5)]


def nan_map() -> Tensor:
    maps = maps_of(2)
    maps[1, 0, 0] = torch.nan
    return maps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributions": nan_map()}, "map 1 holds NaN"),
        ({"attributions": maps_of(3)}, "for 2 images"),
        ({"targets": [0, 3]}, "3 is no class"),
        ({"targets": [0]}, "one class number for each of 2"),
        ({"images": draw_images() * 255}, "do not normalise"),
        ({"images": draw_images()[:, :, :16]}, r"takes \[n, 3, 32, 32\]"),
        ({"images": draw_images()[:0]}, "resize"),
        ({"steps": 32 * 32 + 1}, "1025 is not between"),
        ({"steps": 0}, "or choose adaptive"),
        ({"substrates": ("grey", "zero")}, "unknown substrate 'grey'"),
        ({"precision": "fp16"}, "fp32, bf16, auto"),
        ({"unit_px": 5}, "squares of 5 px"),
        ({"unit_px": 16, "steps": 5}, "5 is not between 1 and the 4"),
        ({"order": "random"}, "most_relevant_first, least_relevant_first"),
        ({"temperature": 0.0}, "temperature: 0.0 is not positive"),
        ({"batch_size": 0}, "neither auto"),
    ],
)
def test_what_cannot_be_scored_is_refused(change: dict, message: str):
    given = {"images": draw_images(), "attributions": maps_of(2), "steps": 2} | change
    with pytest.raises(StudyError, match=message):
        insertion_deletion(build("vit"), **given)


def test_constant_and_negative_maps_are_scored_in_reading_order():
    classifier, images = build("vit"), draw_images()
    flat = insertion_deletion(classifier, images, torch.zeros(2, 4, 4), steps=4)
    negative = insertion_deletion(classifier, images, torch.full((2, 4, 4), -1.0), steps=4)
    assert torch.equal(flat.deletion_auc, negative.deletion_auc)


@pytest.mark.slow
def test_neither_scheduler_nor_registry_is_imported():
    code = (
        "import sys; from pipeline.metrics import insertion_deletion; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'mlflow', 'prefect', 'dvc'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.metrics.maps.IMAGES_AT_A_TIME", 2)
    classifier = build("vit")

    def peak(count: int) -> int:
        maps = maps_of(count)
        return peak_bytes(
            lambda images: insertion_deletion(classifier, images, maps, steps=4, batch_size=2), draw_images(count)
        )

    curves_of_an_image = 1000  # bytes
    assert peak(12) - peak(4) <= 8 * curves_of_an_image
