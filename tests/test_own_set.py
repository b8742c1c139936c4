"""A set that no code names goes through the whole study: two classes in folders, masks, patients in a table."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.sets import write
from tests.study import ROOT, TINY, Study, make_study

pytestmark = pytest.mark.slow

PATIENTS, SIDE = 12, 48
ENTRY = {
    "kind": "folder",
    "source": "scans",
    "title": "Rings and discs",
    "classes": ["ring", "disc"],
    "masks": "outlines",
    "table": "patients.csv",
    "groups": "patient_id",
    "duplicate_distance": 0,
    "flips": ["horizontal", "vertical"],
    "evidence": "shape",
    "citation": "Nobody, Rings and discs (2026)",
}
KINDS = {"png": "PNG", "jpg": "JPEG", "tif": "TIFF"}  # of the files, one after the other


def draw(class_name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright ring or disc on noise, and where it is."""
    y, x = np.mgrid[:SIDE, :SIDE]
    distance = np.hypot(*(np.stack([y, x]) - rng.integers(16, 32, 2)[:, None, None]))
    shape = (distance < 11) & ((distance > 6) | (class_name == "disc"))
    return (rng.integers(0, 90, (SIDE, SIDE)) + 150 * shape).astype(np.uint8), shape


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    Image.fromarray(pixels).save(buffer := BytesIO(), kind)
    return buffer.getvalue()


def make_scans(folder: Path) -> Path:
    """Four images of each patient, two of each class, in three file formats."""
    rng, rows = np.random.default_rng(0), []
    for number in range(4 * PATIENTS):
        class_name, ending = ("ring", "disc")[number % 2], list(KINDS)[number % 3]
        image, shape = draw(class_name, rng)
        name = f"{class_name}/{number}.{ending}"
        write(folder / "photos" / name, encoded(image, KINDS[ending]))
        write(folder / "outlines" / class_name / f"{number}.png", encoded(shape.astype(np.uint8) * 255, "PNG"))
        rows.append({"file": f"photos/{name}", "patient_id": f"Patient-{number // 4}"})
    pd.DataFrame(rows).to_csv(folder / "patients.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    params = TINY | {
        "study": {"datasets": ["rings"], "models": ["swin"], "threads": 1},
        "pretraining": {"stages": []},
    }
    study = make_study(tmp_path_factory.mktemp("own"), params)
    study.edit(lambda tree: tree["datasets"].update(rings=ENTRY))
    shutil.copytree(ROOT / "data/pretrained", study.folder / "data/pretrained")
    make_scans(study.folder / "scans")
    study.run("dvc", "repro")
    return study


def test_it_is_prepared_as_its_entry_says(study: Study) -> None:
    audit = json.loads((study.folder / "data/prepared/rings/audit.json").read_text())
    assert audit["spec"]["classes"] == ["ring", "disc"]
    assert (audit["images"], audit["masks"], audit["given_groups"]) == (48, 48, PATIENTS)
    assert audit["dropped"] == audit["flagged"] == []


def test_no_patient_is_on_two_sides(study: Study) -> None:
    index = pd.read_csv(study.folder / "data/prepared/rings/index.csv")
    patient = index["file"].str.extract(r"(\d+)\.")[0].astype(int) // 4
    assert index.groupby(patient)["split"].nunique().eq(1).all()


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


def test_a_patient_is_named_in_no_file_but_the_raw_table(study: Study) -> None:
    naming = [
        path.relative_to(study.folder).as_posix()
        for path in (study.folder / "data").rglob("*")
        if path.is_file() and b"Patient-11" in path.read_bytes()
    ]
    assert naming == ["data/raw/rings/patients.csv"]


def test_a_second_run_has_nothing_to_do_but_look(study: Study) -> None:
    assert study.repro() == {"publish"}
