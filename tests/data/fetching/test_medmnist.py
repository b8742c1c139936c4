"""MedMNIST files: images, labels and splits come out as they went in; what is no such file is refused."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data import spec_of
from pipeline.data.fetching import limits
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


def with_labels(labels: np.ndarray) -> bytes:
    return packed(arrays() | {"train_labels": labels})


def with_header(name: str, shape: tuple[int, ...], dtype: str) -> bytes:
    """An array of that name which is a header alone."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    buffer = io.BytesIO(without(name))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header)
    return buffer.getvalue()


def encrypted() -> bytes:
    content = bytearray(packed(arrays()))
    content[content.index(b"PK\1\2") + 8] |= 1  # a flag of the first array
    return bytes(content)


def corrupt() -> bytes:
    content = bytearray(packed(arrays()))
    content[100:2000] = bytes([0xFF]) * 1900
    return bytes(content)


REFUSED = {
    "a pickle": (
        lambda: packed(arrays() | {"train_labels": np.array([{}], dtype=object)}),
        r"train_labels are object \(1,\)",
    ),
    "no test images": (lambda: without("test_images"), "not a whole MedMNIST file"),
    "a cut file": (lambda: packed(arrays())[:2000], "not a whole MedMNIST file"),
    "no zip": (lambda: b"numbers", "neither a zip nor a tar"),
    "several labels": (lambda: packed(arrays() | {"val_labels": np.ones((6, 14))}), "has 14 labels per image"),
    "volumes": (lambda: packed(arrays((8, 8, 8))), r"\(12, 8, 8, 8\); needed are 8-bit images"),
    "floats": (lambda: packed(arrays() | {"train_images": np.zeros((12, 8, 8))}), "float64.*needed are 8-bit images"),
    "too many labels": (lambda: packed(arrays(classes=3)), "has labels up to 2, but 2 classes are named"),
    "broken labels": (lambda: with_labels(np.full((12, 1), 0.7)), r"train_labels are float64 \(12, 1\).*whole number"),
    "negative labels": (lambda: with_labels(np.full((12, 1), -1)), "has labels from -1 to -1.*from 0 to 999"),
    "large labels": (lambda: with_labels(np.full((12, 1), 1000)), "has labels from 1000 to 1000"),
    "unsigned labels": (lambda: with_labels(np.full((12, 1), 2**64 - 1, np.uint64)), f"to {2**64 - 1}"),
    "lists of labels": (lambda: with_labels(np.zeros((12, 1, 1), int)), r"train_labels are int64 \(12, 1, 1\)"),
    "10^13 labels": (lambda: with_header("val_labels", (10**13, 1), "<i8"), "holds more than 2,000,000 files"),
    "2^26 labels": (lambda: with_header("val_labels", (2**26,), "|u1"), "holds more than 2,000,000 files"),
    "fewer labels than it says": (lambda: with_header("val_labels", (10**6,), "|u1"), "an array ends too early"),
    "fewer than no labels": (lambda: with_header("val_labels", (-1, 1), "|u1"), "of negative length"),
    "labels that swell": (lambda: with_labels(np.zeros((1 << 22, 1), int)), "train_labels.npy' unpacks to 33,554,"),
    "one large image": (lambda: with_header("test_images", (1, 10**4, 10**4, 3), "|u1"), "more than 50,000,000 pix"),
    "small images": (lambda: packed(arrays((8, 8))), "train_images: 8 x 8 px is too small"),
    "images that swell": (
        lambda: packed(arrays() | {"test_images": np.zeros((6, 2000, 2000), np.uint8)}),
        "unpacks to 24",
    ),
    "an encrypted array": (encrypted, "'train_images.npy' is encrypted; unpack it by hand"),
    "a damaged array": (corrupt, "not a whole MedMNIST file"),
    "too few labels": (lambda: packed(arrays() | {"train_labels": np.zeros((3, 1), int)}), "not a whole MedMNIST file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_another_file_is_refused(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    file = write(tmp_path / "m.npz", make())
    with pytest.raises(StudyError, match=message) as caught:
        unpack_medmnist(file, tmp_path / "raw", ("ill", "well"), ignore, "m.npz")
    assert "\n" not in str(caught.value)


def test_what_swells_in_all_or_fills_the_disk_is_refused_before_an_image_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "m.npz", packed(arrays() | {"test_images": np.zeros((6, 1000, 1000), np.uint8)}))
    for limit, value, message in (
        ("RESERVE_BYTES", 1 << 60, r"its images take 6,\d+,\d+ bytes, but only 0 are to spare"),
        ("FREE_BYTES", 5_000_000, "unpacks to over 5,000,000 bytes and over"),
    ):
        monkeypatch.setattr(limits, limit, value)
        monkeypatch.setattr(limits, "MAX_RATIO", 20)
        with pytest.raises(StudyError, match=message):
            unpack_medmnist(file, tmp_path / "raw", ("ill", "well"), ignore, "m.npz")
        assert not list((tmp_path / "raw").iterdir())
