"""What must hold for every entry of the registries and of the shipped params, newcomers included."""

from pathlib import Path

import pytest
import torch

from pipeline import data, explain
from pipeline.explain.rollout import RolloutSettings
from pipeline.models.build import build_classifier
from pipeline.models.weights import pretrained_cfg
from pipeline.params import load_params

ROOT = Path(__file__).parents[1]
EMBEDDED, PAPER = (load_params(ROOT / name) for name in ("params.yaml", "params/paper.yaml"))
SETTINGS = RolloutSettings(mode="corrected", discard_ratio=0.9)


@pytest.mark.parametrize("name", EMBEDDED.models)
def test_every_model_of_the_embedded_study_is_explained_by_every_method(name):
    params, size = EMBEDDED.models[name], EMBEDDED.preprocess.image_size_px
    classifier = build_classifier(params.arch, params.arch_options, params.weights, 3, size, seed=0)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    maps = explain.explain_batch(classifier, images, torch.tensor([0, 2]), tuple(explain.METHODS), SETTINGS)
    for method, attribution in maps.items():
        assert attribution.shape[0] == 2, method
        assert torch.isfinite(attribution).all(), method
        assert attribution.amax() > 0, method


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
    assert f"datasets.{name}.source" in (ROOT / "dvc.yaml").read_text().replace("${item}", name)
