"""Loading a prepared set, and what is refused."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.prepared import load_prepared, to_tensor
from pipeline.errors import StudyError
from tests.data.sets import make_busi, prepare
from tests.prepared import write_prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(make_busi(tmp_path / "raw").parent, tmp_path / "prepared")
    return tmp_path / "prepared"


def test_the_rows_of_the_splits_are_all_rows(folder: Path) -> None:
    prepared = load_prepared(folder)
    rows = np.concatenate([prepared.rows(split) for split in ("train", "validation", "test")])
    assert sorted(rows) == list(range(12))
    assert (prepared.index["split"].iloc[prepared.rows("test")] == "test").all()


def test_pixels_stay_on_disk(folder: Path) -> None:
    assert isinstance(load_prepared(folder).images, np.memmap)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def test_pixels_are_the_rows_asked_for(folder: Path) -> None:
    prepared = load_prepared(folder)
    rows = np.array([7, 0, 7])
    assert np.array_equal(prepared.pixels(rows), prepared.images[rows])


def test_an_image_that_can_no_longer_be_read_is_named(folder: Path) -> None:
    prepared = load_prepared(folder)
    cut(folder / "images.npy")
    assert prepared.pixels(np.array([0])).any()
    last = prepared.index["file"].iloc[-1]
    with pytest.raises(StudyError, match=rf"images\.npy: row 11 \({re.escape(last)}\) cannot be read: .*dvc repro -f"):
        prepared.pixels(np.array([0, 11]))


def shorten(path: Path) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no set.json": (lambda folder: (folder / "set.json").unlink(), "set.json: no such file"),
    "no index": (lambda folder: (folder / "index.csv").unlink(), "index.csv: no such file"),
    "no masks": (lambda folder: (folder / "masks.npy").unlink(), "masks.npy: no such file"),
    "no traits": (lambda folder: (folder / "traits.csv").unlink(), "traits.csv: no such file; run `dvc repro prep"),
    "short traits": (lambda folder: shorten(folder / "traits.csv"), "traits.csv does not list the rows of index.csv"),
    "other traits": (
        lambda folder: (folder / "traits.csv").write_text("x\n"),
        "traits.csv has no column row; run `dvc repro -f preprocess@busi",
    ),
    "empty traits": (lambda folder: (folder / "traits.csv").write_text(""), "dvc repro -f preprocess@busi"),
    "cut images": (lambda folder: cut(folder / "images.npy"), "dvc repro -f preprocess@busi"),
    "cut index": (lambda folder: cut(folder / "index.csv"), "dvc repro -f preprocess@busi"),
    "short index": (lambda folder: shorten(folder / "index.csv"), "index.csv does not list the images"),
    "other images": (lambda folder: np.save(folder / "images.npy", np.zeros((2, 3))), "the arrays do not hold"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_set_is_refused(folder: Path, case: str) -> None:
    damage, message = DAMAGE[case]
    damage(folder)
    with pytest.raises(StudyError, match=message):
        load_prepared(folder)


@given(st.integers(0, 255))
def test_a_tensor_is_the_image_in_0_to_1_channels_first(value: int) -> None:
    images = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    images[0, 1, 2, 0] = value
    tensor = to_tensor(images)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert tensor[0, 0, 1, 2] == np.float32(value) / np.float32(255)
    assert torch.equal((tensor * 255).round().to(torch.uint8), torch.from_numpy(images).permute(0, 3, 1, 2))


def test_another_process_opens_the_files_anew(tmp_path):
    write_prepared(tmp_path / "set")
    prepared = load_prepared(tmp_path / "set")
    parcel = pickle.dumps(prepared)
    assert len(parcel) < 1000
    assert np.array_equal(pickle.loads(parcel).images, prepared.images)
