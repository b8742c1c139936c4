"""Given splits, patients and curated groups, through the whole of preparing a set."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.errors import StudyError
from pipeline.params import DatasetParams
from pipeline.records import Audit
from pipeline.spec import Layout
from tests.data.sets import PARAMS, SIDE, encoded, ignore, noise, own_spec, reasons, write

SPLITS = ("train", "validation", "test")


def make_set(folder: Path, rows: dict[str, tuple[str, ...]], head: str = "file,class,split") -> Path:
    """An image of noise for each file, but for those that are there, and the table."""
    for number, name in enumerate(rows):
        if not (folder / name).exists():
            write(folder / name, encoded(noise(number)))
    lines = [",".join((name, *values)) for name, values in rows.items()]
    write(folder / "index.csv", "\n".join([head, *lines]).encode())
    return folder


def prepare(raw: Path, groups: str = "", **layout: str) -> tuple[Audit, pd.DataFrame]:
    spec = own_spec(layout=Layout(table="index.csv", groups=groups, **layout))
    params = DatasetParams(source="here", duplicate_distance=4, kind="folder")
    audit = prepare_dataset(spec, params, PARAMS, 0, raw, raw.parent / "prepared", 1, ignore)
    return audit, pd.read_csv(raw.parent / "prepared" / "index.csv").set_index("file")


def given(count: int = 2) -> dict[str, tuple[str, ...]]:
    return {
        f"{name}_{split}_{number}.png": (name, split) for name in "xy" for split in SPLITS for number in range(count)
    }


def test_a_given_split_is_kept(tmp_path: Path) -> None:
    audit, index = prepare(make_set(tmp_path / "raw", given()))
    assert index["split"].to_dict() == {file: split for file, (_, split) in given().items()}
    assert audit.given_splits
    assert audit.test_images_near_train == 0


def test_what_looks_like_a_test_image_is_not_trained_on(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    picture = np.asarray(Image.fromarray(noise(7, 6, 6)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    write(raw / "x_train_0.png", encoded((picture * 0.9).astype(np.uint8)))
    write(raw / "x_test_0.png", encoded(picture))
    audit, index = prepare(make_set(raw, given()))
    assert set(index.index) == set(given()) - {"x_train_0.png"}
    assert reasons(audit) == {
        "x_train_0.png": "given to train, but it belongs together with x_test_0.png, which is given to test"
    }


def test_of_equal_images_that_of_the_test_split_is_kept(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("x_train_0.png", "x_test_1.png", "x_validation_0.png"):
        write(raw / name, encoded(noise(500)))
    audit, index = prepare(make_set(raw, given()))
    assert "x_test_1.png" in index.index
    assert set(reasons(audit)) == {"x_train_0.png", "x_validation_0.png"}


def test_a_validation_split_is_made_from_train_where_none_is_given(tmp_path: Path) -> None:
    rows = {f"{name}_{number}.png": (name, "train" if number < 8 else "test") for name in "xy" for number in range(10)}
    _, index = prepare(make_set(tmp_path / "raw", rows))
    assert index["split"].value_counts().to_dict() == {"train": 12, "validation": 4, "test": 4}
    assert set(index.index[index["split"] == "test"]) == {file for file, (_, split) in rows.items() if split == "test"}


def test_a_split_column_without_a_test_image_is_refused(tmp_path: Path) -> None:
    rows = {f"{name}_{number}.png": (name, "train") for name in "xy" for number in range(5)}
    with pytest.raises(StudyError, match=r"index\.csv: no image of x, y that is left is given to test"):
        prepare(make_set(tmp_path / "raw", rows))


def patients() -> dict[str, tuple[str, ...]]:
    """Ten patients with two images each; the second image of each is of the other class."""
    return {f"{n}_{side}.png": ("x" if side == "a" else "y", f"patient-{n}") for n in range(10) for side in "ab"}


def test_a_patient_is_on_one_side_of_the_split(tmp_path: Path) -> None:
    audit, index = prepare(make_set(tmp_path / "raw", patients(), "file,class,who"), groups="who")
    by_patient = index.groupby(index.index.str.split("_").str[0])
    assert by_patient["split"].nunique().eq(1).all()
    assert by_patient["group"].nunique().eq(1).all()
    assert index["group"].nunique() == 10
    assert audit.given_groups == 10
    assert audit.links == {"given_group": 10}
    assert audit.duplicate_groups == audit.flagged == ()


def test_who_the_patients_are_is_written_nowhere(tmp_path: Path) -> None:
    prepare(make_set(tmp_path / "raw", patients(), "file,class,who"), groups="who")
    for path in (tmp_path / "prepared").iterdir():
        assert b"patient-3" not in path.read_bytes(), path.name


def test_a_curated_list_groups_and_drops(tmp_path: Path) -> None:
    rows = {f"{name}_{number}.png": (name,) for name in "xy" for number in range(8)}
    raw = make_set(tmp_path / "raw", rows, "file,class")
    rows = ["file,group,drop,objection", "x_0.png,1,,", "y_0.png,1,,", "x_1.png,,blurred,", "x_2.png,,,axilla"]
    write(raw / "list.csv", "\n".join(rows).encode())
    audit, index = prepare(raw, curated="list.csv")
    assert index.loc["x_0.png", "split"] == index.loc["y_0.png", "split"]
    assert index.loc["x_0.png", "group"] == index.loc["y_0.png", "group"]
    assert "x_1.png" not in index.index
    said = reasons(audit)
    assert said["x_1.png"] == "left out by list.csv: blurred"
    assert said["x_2.png"] == "list.csv: axilla"
    assert said["x_0.png"].startswith("looks like y_0.png of another class")


def test_a_patient_whose_image_is_a_copy_of_anothers_stays_with_that_other(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("0_a.png", "7_a.png"):  # patients 0 and 7 share a picture, of which one file is left out
        write(raw / name, encoded(noise(900)))
    _, index = prepare(make_set(raw, patients(), "file,class,who"), groups="who")
    assert "7_a.png" not in index.index
    assert index.loc[["0_a.png", "0_b.png", "7_b.png"], "group"].nunique() == 1
    assert index.loc[["0_a.png", "0_b.png", "7_b.png"], "split"].nunique() == 1


def test_a_copy_left_out_ties_its_patient_to_the_test_split(tmp_path: Path) -> None:
    raw, rows = tmp_path / "raw", {}
    for number, (file, (name, split)) in enumerate(given(3).items()):
        rows[file] = (name, split, f"p{number}")
    rows["x_train_1.png"] = ("x", "train", rows["x_train_0.png"][2])  # one patient, two images
    for name in ("x_train_0.png", "x_test_0.png"):
        write(raw / name, encoded(noise(901)))
    audit, index = prepare(make_set(raw, rows, "file,class,split,who"), groups="who")
    assert {"x_train_0.png", "x_train_1.png"}.isdisjoint(index.index)
    assert "belongs together with x_test_0.png" in reasons(audit)["x_train_1.png"]


def test_a_copy_left_out_keeps_its_curated_group_together(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    rows = {f"{name}_{number}.png": (name,) for name in "xy" for number in range(8)}
    for name in ("x_0.png", "x_5.png"):
        write(raw / name, encoded(noise(902)))
    make_set(raw, rows, "file,class")
    write(raw / "list.csv", b"file,group\nx_5.png,1\nx_7.png,1\n")
    _, index = prepare(raw, curated="list.csv")
    assert index.loc["x_0.png", "group"] == index.loc["x_7.png", "group"]
