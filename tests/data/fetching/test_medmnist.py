"""MedMNIST files: images, labels and splits come out as they went in; what is no such file is refused."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data import spec_of
from pipeline.data.fetching.medmnist import unpack_medmnist
from pipeline.data.fetching.source import fetch_source
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.data.sets.own import MEDMNIST_TABLE
from pipeline.errors import StudyError
from pipeline.params import DatasetParams
from tests.data.fetching.test_source import PHANTOM
from tests.data.sets import PARAMS, ignore, write

COUNTS = {"train": 12, "val": 6, "test": 6}


def arrays(shape: tuple[int, ...] = (28, 28, 3), classes: int = 2) -> dict[str, np.ndarray]:
    rng, made = np.random.default_rng(0), {}
    for split, count in COUNTS.items():
        made[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        made[f"{split}_labels"] = (np.arange(count) % classes)[:, None]
    return made


def packed(contents: dict[str, np.ndarray]) -> bytes:
    np.savez_compressed(buffer := io.BytesIO(), **contents)
    return buffer.getvalue()


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_every_image_keeps_its_pixels_label_and_split(tmp_path: Path, shape: tuple[int, ...]) -> None:
    made = arrays(shape)
    file = write(tmp_path / "m.npz", packed(made))
    unpack_medmnist(file, tmp_path / "raw", ("ill", "well"), ignore, "m.npz")
    table = pd.read_csv(tmp_path / "raw" / MEDMNIST_TABLE)
    assert table["split"].value_counts().to_dict() == {"train": 12, "validation": 6, "test": 6}
    for split, given in (("train", "train"), ("val", "validation"), ("test", "test")):
        rows = table[table["split"] == given]
        assert rows["class"].tolist() == [("ill", "well")[label] for label in made[f"{split}_labels"][:, 0]]
        images = [np.asarray(Image.open(tmp_path / "raw" / name)) for name in rows["file"]]
        assert (np.stack(images) == made[f"{split}_images"]).all()


def test_labels_without_names_sort_as_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "m.npz", packed(arrays(classes=12)))
    unpack_medmnist(file, tmp_path / "raw", (), ignore, "m.npz")
    assert sorted(set(pd.read_csv(tmp_path / "raw" / MEDMNIST_TABLE, dtype=str)["class"]))[:3] == ["00", "01", "02"]


def test_it_becomes_a_prepared_set_with_the_given_splits(tmp_path: Path) -> None:
    write(tmp_path / "m.npz", packed(arrays()))
    params = DatasetParams(
        source=str(tmp_path / "m.npz"), kind="medmnist", duplicate_distance=4, classes=("well", "ill")
    )
    spec = spec_of("derma", params)
    receipt = fetch_source(spec, params, PHANTOM, tmp_path / "raw", 1, ignore, "datasets.derma.source")
    audit = prepare_dataset(spec, params, PARAMS, 0, tmp_path / "raw", tmp_path / "prepared", 1, ignore)
    assert (receipt.images, audit.images) == (24, 24)
    assert audit.classes == ("well", "ill")
    assert audit.given_splits
    assert {split: sum(counts.values()) for split, counts in audit.images_per_split.items()} == {
        "train": 12,
        "validation": 6,
        "test": 6,
    }


def without(name: str) -> bytes:
    return packed({key: value for key, value in arrays().items() if key != name})


REFUSED = {
    "a pickle": (lambda: packed(arrays() | {"train_labels": np.array([{}], dtype=object)}), "not a whole MedMNIST"),
    "no test images": (lambda: without("test_images"), "not a whole MedMNIST file"),
    "a cut file": (lambda: packed(arrays())[:2000], "not a whole MedMNIST file"),
    "no zip": (lambda: b"numbers", "not a whole MedMNIST file"),
    "several labels": (lambda: packed(arrays() | {"val_labels": np.ones((6, 14))}), "has 14 labels per image"),
    "volumes": (lambda: packed(arrays((8, 8, 8))), r"\(12, 8, 8, 8\); needed are 8-bit images"),
    "floats": (lambda: packed(arrays() | {"train_images": np.zeros((12, 8, 8))}), "float64.*needed are 8-bit images"),
    "too many labels": (lambda: packed(arrays(classes=3)), "has labels up to 2, but 2 classes are named"),
    "too few labels": (lambda: packed(arrays() | {"train_labels": np.zeros((3, 1))}), "not a whole MedMNIST file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_file_is_refused(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    file = write(tmp_path / "m.npz", make())
    with pytest.raises(StudyError, match=message):
        unpack_medmnist(file, tmp_path / "raw", ("ill", "well"), ignore, "m.npz")
