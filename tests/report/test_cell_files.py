"""Cells of the study and of its repeats are read from where they lie; what is absent is asked of the right stage."""

import shutil
from pathlib import Path

import pytest

from flows.layout import heatmap_dir, model_dir, score_dir
from pipeline.errors import StudyError
from pipeline.records import Receipt
from pipeline.report.cells import load_cell, load_cells
from tests.report.made_study import Study

SEED = 1


@pytest.fixture
def repeated(own_study: Study, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Each cell of the study once more with another seed, where the stages would leave it."""
    monkeypatch.chdir(own_study.data.parent)
    for dataset in own_study.datasets:
        for model in own_study.models:
            for folder_of in (model_dir, heatmap_dir, score_dir):
                shutil.copytree(folder_of(dataset, model), folder_of(dataset, model, SEED))
            change_seed(model_dir(dataset, model, SEED))
    return own_study


def test_cells_are_those_of_the_seed_asked_for(repeated):
    own = load_cells(repeated.data, repeated.datasets, repeated.models)
    again = load_cells(repeated.data, repeated.datasets, repeated.models, seed=SEED)
    assert [(cell.dataset, cell.model) for cell in again] == [(cell.dataset, cell.model) for cell in own]
    assert {cell.receipt.seed for cell in own} == {0}
    assert {cell.receipt.seed for cell in again} == {SEED}


def test_a_repeats_missing_file_names_the_repeats_stage(repeated):
    (score_dir("busi", "dino", SEED) / "summary.json").unlink()
    with pytest.raises(StudyError, match="run `dvc repro score_seed@busi-dino-1`"):
        load_cell(repeated.data, "busi", "dino", SEED)
    assert load_cell(repeated.data, "busi", "dino").receipt.seed == 0


def test_a_repeats_mixed_files_name_the_repeats_stage(repeated):
    changed = Receipt.read(model_dir("pbc", "vit", SEED)).model_copy(update={"checkpoint_sha256": "0" * 64})
    changed.write(model_dir("pbc", "vit", SEED))
    with pytest.raises(
        StudyError, match="different checkpoints, heatmaps or data; run `dvc repro score_seed@pbc-vit-1`"
    ):
        load_cell(repeated.data, "pbc", "vit", SEED)


def change_seed(trained: Path) -> None:
    Receipt.read(trained).model_copy(update={"seed": SEED}).write(trained)
