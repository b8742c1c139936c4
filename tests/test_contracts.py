"""What must hold for every entry of the registries and of the shipped params, newcomers included."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline import data, explain
from pipeline.files import sha256_of
from pipeline.models.build import build_classifier
from pipeline.models.weights import FROM_SCRATCH, pretrained_cfg
from pipeline.params import load_params
from pipeline.records import PretrainingReceipt

ROOT = Path(__file__).parents[1]
EMBEDDED, PAPER = (load_params(ROOT / name) for name in ("params.yaml", "params/paper.yaml"))
SETTINGS = EMBEDDED.explain.model_copy(update={"rise_masks": 8, "integrated_gradients_steps": 2})


@pytest.mark.parametrize("name", EMBEDDED.models)
def test_every_model_of_the_embedded_study_is_explained_by_every_method(name):
    params, size = EMBEDDED.models[name], EMBEDDED.preprocess.image_size_px
    classifier = build_classifier(params.arch, params.arch_options, FROM_SCRATCH, 3, size, seed=0)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = explain.explain_batch(classifier, images, None, tuple(explain.METHODS), SETTINGS)
    for method, attribution in maps.items():
        assert attribution.shape[0] == 2, method
        assert torch.isfinite(attribution).all(), method
        assert attribution.amax() > 0, method


@pytest.mark.parametrize("name", EMBEDDED.models)
def test_every_shipped_backbone_is_small_and_what_its_receipt_says(name):
    params, weights = EMBEDDED.models[name], ROOT / EMBEDDED.models[name].weights
    receipt = PretrainingReceipt.read_from(weights.with_suffix(".json"))
    assert weights.stat().st_size <= 3 * 2**20
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    assert sha256_of(weights) == receipt.checkpoint_sha256
    assert receipt.checkpoint_sha256 in weights.with_suffix(".md").read_text(encoding="utf-8")
    assert (receipt.model, receipt.arch, receipt.arch_options) == (name, params.arch, params.arch_options)
    assert receipt.strategy == EMBEDDED.pretraining.strategies[name]
    assert receipt.phantom_seed != EMBEDDED.phantom.seed


def test_the_shipped_dino_tells_cells_apart_though_it_saw_no_label():
    receipt = PretrainingReceipt.read_from(ROOT / EMBEDDED.models["dino"].weights.replace(".safetensors", ".json"))
    assert receipt.labels == "none"
    assert receipt.probes["pbc"]["knn_accuracy"] >= 0.6


@pytest.mark.parametrize("name", PAPER.models)
def test_every_model_of_the_paper_study_has_a_tag_that_timm_knows(name):
    params = PAPER.models[name]
    assert pretrained_cfg(params.arch, params.weights).hf_hub_id


@pytest.mark.parametrize("name", data.DATASETS)
def test_every_dataset_says_what_it_is(name):
    spec = data.DATASETS[name]
    assert spec.name == name
    assert list(spec.classes) == sorted(set(spec.classes))
    assert len(spec.classes) > 1
    assert spec.licence
    assert spec.citation
    assert spec.source_url.startswith("https://")
