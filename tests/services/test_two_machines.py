"""Two machines without a common folder make a cell each; a third takes both from the remote and learns nothing anew."""

import shutil
from pathlib import Path

import pytest

from tests.machines import add_remote, clone_of, commit, contents
from tests.rings import ENTRY, make_scans
from tests.study import ROOT, TINY, Study, make_study

pytestmark = pytest.mark.slow

MODELS = ("swin", "deit")
PARAMS = TINY | {"study": {"datasets": ["rings"], "models": list(MODELS), "threads": 1}, "pretraining": {"stages": []}}


@pytest.fixture
def head(tmp_path: Path) -> Study:
    """A study that nothing was run of, with a remote; its images lie beside it."""
    params = PARAMS | {"models": {**TINY["models"], "deit": TINY["models"]["deit"] | {"weights": "none"}}}
    study = make_study(tmp_path / "head" / "checkout", params)
    make_scans(tmp_path / "head" / "scans")
    study.edit(lambda tree: tree["datasets"].update(rings=ENTRY))
    shutil.copytree(ROOT / "data/pretrained", study.folder / "data/pretrained")
    add_remote(study, str(tmp_path / "shelf"))
    commit(study)
    return study


def machine_beside(head: Study, folder: Path) -> Study:
    """A clone with the images beside it."""
    clone = clone_of(head, folder)
    shutil.copytree(head.folder.parent / "scans", folder / "scans")
    return clone


def test_cells_of_two_machines_come_together_on_a_third(head: Study, tmp_path: Path) -> None:
    cells = {}
    for model in MODELS:
        machine = machine_beside(head, tmp_path / model)
        assert f"score@rings-{model}" in machine.repro(f"score@rings-{model}")
        machine.run("dvc", "push", "--run-cache")
        cells |= contents(machine, "data/scores")
    head.run("dvc", "fetch", "--run-cache")
    assert head.repro("--pull", *(f"score@rings-{model}" for model in MODELS)) == {
        "fetch@rings"
    }  # kept out of the run cache
    assert contents(head, "data/scores") == cells
    assert {name.split("/")[3] for name in cells} == set(MODELS)
