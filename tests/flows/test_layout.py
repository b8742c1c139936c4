"""A repeat's files have folders of their own, where dvc.yaml and the report look for them."""

from pathlib import Path

import pytest
import yaml

from flows.layout import cell_name, heatmap_dir, model_dir, resume_dir, score_dir

ROOT = Path(__file__).parents[2]
CELL_STAGES = ("finetune", "explain", "score")
REPEAT = "seed_${item.seed}/"


def test_a_cell_of_the_study_and_its_repeat_lie_apart():
    folders = {folder_of("busi", "dino", seed) for folder_of in FOLDERS for seed in (None, 1, 2)}
    assert len(folders) == 3 * len(FOLDERS)
    assert model_dir("busi", "dino") == Path("data/models/busi/dino")
    assert score_dir("busi", "dino", 1) == Path("data/scores/seed_1/busi/dino")


def test_a_repeat_is_called_by_its_seed():
    assert cell_name("busi", "dino") == "busi-dino"
    assert cell_name("busi", "dino", 1) == "busi-dino seed 1"


@pytest.mark.parametrize("name", CELL_STAGES)
def test_the_stage_of_a_repeat_reads_and_writes_what_that_of_the_study_does(name):
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    own, repeat = stages[name], stages[f"{name}_seed"]
    assert repeat["matrix"] == own["matrix"] | {"seed": "${study.seeds}"}
    assert repeat["cmd"] == own["cmd"] + " --seed ${item.seed}"
    assert repeat["params"] == own["params"]
    assert [path.replace(REPEAT, "") for path in repeat["deps"]] == own["deps"]
    assert {path.replace(REPEAT, "") for path in repeat["outs"]} == written_by(own)
    assert all(REPEAT in path for path in repeat["outs"])


def written_by(stage: dict) -> set[str]:
    """A path that is a plot stands as a mapping from itself to how it is drawn."""
    listed = stage["outs"] + stage.get("metrics", []) + stage.get("plots", [])
    return {path for entry in listed for path in ([entry] if isinstance(entry, str) else entry)}


FOLDERS = (model_dir, heatmap_dir, score_dir, resume_dir)
