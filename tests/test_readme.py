"""The README's own lines, run as they are written; what it and the other pages link to or show is there."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.data import spec_of
from pipeline.params import DatasetParams

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ["README.md", "data/README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


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


def test_the_tree_names_every_module_of_the_flows_and_every_part_of_the_pipeline():
    tree = README.split("## The tree\n")[1].split("```")[1]
    parts = [*(ROOT / "flows").glob("*.py"), *(ROOT / "pipeline").glob("[a-z]*")]
    assert {part.stem for part in parts if not part.stem.startswith("_")} - set(re.findall(r"\w+", tree)) == set()


def local_targets(page: str) -> list[str]:
    """What the page links to or shows, without what lies elsewhere and places within itself."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = map("".join, re.findall(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"", text))
    return sorted({target.split("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)})


@pytest.mark.parametrize(("page", "target"), [(page, target) for page in PAGES for target in local_targets(page)])
def test_every_local_file_that_a_page_links_to_or_shows_exists(page, target):
    assert (ROOT / page).parent.joinpath(target).exists()


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
