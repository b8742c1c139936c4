"""The README's own lines, run as they are written."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.data import spec_of
from pipeline.params import DatasetParams

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_of(heading: str) -> str:
    """The first Python block under a heading."""
    section = README.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert found
    return found.group(1)


@pytest.mark.parametrize("page", ["README.md", "data/README.md"])
def test_the_entry_of_an_own_set_is_one_that_is_read(page):
    section = (ROOT / page).read_text(encoding="utf-8").split("# Your own images\n")[1]
    found = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found
    for name, keys in yaml.safe_load(found.group(1))["datasets"].items():
        assert spec_of(name, DatasetParams.model_validate(keys)).name == name


@pytest.mark.slow
def test_any_timm_model_is_explained_and_scored_in_the_lines_shown():
    world: dict = {}
    exec(python_of("Explain any timm model"), world)
    assert {name: tuple(map_.shape) for name, map_ in world["maps"].items()} == dict.fromkeys(
        ("gradcam", "gradient_rollout", "chefer"), (2, 14, 14)
    )
    scores = world["scores"]
    for areas in (scores.insertion_auc, scores.deletion_auc):
        assert areas.shape == (2,)
        assert torch.isfinite(areas).all()
