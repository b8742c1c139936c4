"""Sets that no code names go through the whole study: folders with masks and patients, and a MedMNIST file."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.explain import explain
from flows.fetch import fetch
from flows.finetune import finetune
from flows.preprocess import preprocess
from flows.score import score
from pipeline.data.images import to_square
from pipeline.data.sets.own import MEDMNIST_TABLE
from tests.data.fetching.test_medmnist import arrays, packed
from tests.data.sets import write
from tests.machines import shared_machine
from tests.rings import DEEP, FORMATS, PATIENTS, drawings
from tests.study import ROOT, TINY, Study, merge

pytestmark = pytest.mark.slow

MINIS = {
    "study": {"datasets": ["minis"], "models": ["swin"], "threads": 1},
    "finetune": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
}
MINIS_ENTRY = {"kind": "medmnist", "source": "minis.npz", "classes": ["ill", "well"], "duplicate_distance": 0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return shared_machine(tmp_path_factory)


def test_it_is_prepared_as_its_entry_says(study: Study) -> None:
    audit = json.loads((study.folder / "data/prepared/rings/audit.json").read_text())
    assert audit["spec"]["classes"] == ["ring", "disc"]
    assert (audit["images"], audit["masks"], audit["given_groups"]) == (48, 48, PATIENTS)
    assert audit["dropped"] == audit["flagged"] == []


def test_every_format_enters_and_those_without_loss_keep_each_pixel(study: Study) -> None:
    folder = study.folder / "data/prepared/rings"
    files = pd.read_csv(folder / "files.csv").set_index("file")
    assert Counter(files["format"]) == dict.fromkeys(FORMATS.values(), len(files) // len(FORMATS))
    assert files["mode"][DEEP].startswith("I")
    row, images = pd.read_csv(folder / "index.csv").set_index("file")["row"], np.load(folder / "images.npy")
    for one in drawings():
        if not one.file.endswith("jpg"):
            expected = to_square(Image.fromarray(one.pixels).convert("RGB"), TINY["preprocess"]["image_size_px"])
            assert (images[row[one.file]] == expected).all(), one.file


def test_no_patient_is_on_two_sides(study: Study) -> None:
    split = pd.read_csv(study.folder / "data/prepared/rings/index.csv").set_index("file")["split"]
    sides = pd.DataFrame([(one.patient, split[one.file]) for one in drawings()]).groupby(0)[1].nunique()
    assert (len(sides), sides.max()) == (PATIENTS, 1)


def test_its_model_is_explained_scored_and_localised(study: Study) -> None:
    summary = json.loads((study.folder / "data/scores/rings/swin/summary.json").read_text())
    assert {"insertion_auc", "pointing_game"} <= set(summary["metrics"]["gradcam"])
    receipt = json.loads((study.folder / "data/models/rings/swin/receipt.json").read_text())
    assert receipt["classes"] == ["ring", "disc"]


def test_the_report_and_the_card_call_it_by_its_name(study: Study) -> None:
    page = (study.folder / "data/report/index.html").read_text(encoding="utf-8")
    card = (study.folder / "data/report/cards/rings-swin.md").read_text(encoding="utf-8")
    assert "Rings and discs" in page
    assert "the outlined shape" in page
    assert f"one of the {PATIENTS} groups" in card
    assert "Nobody, Rings and discs (2026)" in card


def test_its_version_is_registered(study: Study) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study.folder}/mlflow.db")
    (version,) = client.search_model_versions("name='rings-classifier'")
    assert version.tags["model"] == "swin"
    assert client.get_registered_model("rings-classifier").tags["classes"] == "ring, disc"


def test_a_patient_is_named_in_no_file_but_the_raw_ones(study: Study) -> None:
    places = [study.folder / name for name in ("data", "mlartifacts", "mlflow.db")]
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    naming = {path.relative_to(study.folder).as_posix() for path in files if b"Patient-11" in path.read_bytes()}
    headers = {one.file for one in drawings() if one.patient == "Patient-11" and one.file.endswith("dcm")}
    assert naming == {f"data/raw/rings/{name}" for name in ("patients.csv", *headers)}


@pytest.fixture
def minis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose params.yaml names a MedMNIST file beside it, and one model that learns for one epoch."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Study(tmp_path).edit(lambda tree: merge(tree, TINY | MINIS))
    Study(tmp_path).edit(lambda tree: tree["datasets"].update(minis=MINIS_ENTRY))
    write(tmp_path / "minis.npz", packed(arrays()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_given_test_split_of_a_medmnist_file_is_what_is_tested_explained_and_scored(minis: Path) -> None:
    fetch("minis")
    preprocess("minis")
    for stage in (finetune, explain, score):
        stage("minis", "swin")
    given = pd.read_csv(minis / "data/raw/minis" / MEDMNIST_TABLE)
    test = given.loc[given["split"] == "test"].set_index("file")["class"].to_dict()
    predictions = pd.read_csv(minis / "data/models/minis/swin/predictions.csv").set_index("file")["label"]
    assert predictions.map(dict(enumerate(MINIS_ENTRY["classes"]))).to_dict() == test
    scores = pd.read_csv(minis / "data/scores/minis/swin/scores.csv")
    assert all(set(of_method) == set(test) for _, of_method in scores.groupby("method")["file"])
    assert {"gradcam", "gradient_rollout", "random"} <= set(scores["method"])
