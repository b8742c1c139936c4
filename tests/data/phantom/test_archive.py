"""Phantom sets on disk."""

import csv
import hashlib
import re
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from pipeline.data.phantom.archive import SETS, Recipe, SetParams, original_of, render, write_phantom
from pipeline.params import CellPhantomParams, UltrasoundPhantomParams

pytestmark = pytest.mark.slow

SMALL: dict[str, SetParams] = {
    "pbc": CellPhantomParams(
        images_per_class=5,
        width_px=60,
        near_copy_fraction=0.25,
        label_conflicts=2,
        confuse=0.4,
        shortcut_fraction=0.5,
        second_batch_fraction=0.1,
    ),
    "busi": UltrasoundPhantomParams(
        images_per_class=40,
        width_px=64,
        near_copy_fraction=0.25,
        label_conflicts=2,
        confuse=0.15,
        shortcut_fraction=0.5,
        overlay_scale=1.0,
    ),
}
# Bits up to which two images count as near-duplicates: the distances that hold for the real sets.
DISTANCES = {"pbc": 4, "busi": 8}


def write(dataset: str, folder: Path, processes: int = 1) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    write_phantom(dataset, SMALL[dataset], 7, folder, processes, lambda done, total: calls.append((done, total)))
    return calls


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "phantom.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def hashes_of(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def masks_of(folder: Path, file: str) -> list[Path]:
    path = folder / file
    return sorted(other for other in path.parent.iterdir() if other.stem.startswith(f"{path.stem}_mask"))


@pytest.fixture(scope="module", params=["pbc", "busi"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    write(request.param, folder)
    return request.param, folder


@pytest.mark.parametrize("dataset", SETS)
def test_an_image_depends_on_neither_number_nor_order(dataset: str) -> None:
    few, many = (SMALL[dataset].model_copy(update={"images_per_class": number}) for number in (9, 900))
    name = SETS[dataset].classes[1]
    forwards = [render(Recipe(dataset, few, 7), name, index) for index in range(9)]
    backwards = [render(Recipe(dataset, many, 7), name, index) for index in reversed(range(9))][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.mark.parametrize("dataset", SETS)
def test_seed_class_and_index_each_make_another_image(dataset: str) -> None:
    params, classes = SMALL[dataset].model_copy(update={"near_copy_fraction": 0.0}), SETS[dataset].classes
    images = [
        render(Recipe(dataset, params, seed), name, index).image.tobytes()
        for seed in (0, 1)
        for name in classes
        for index in (0, 1)
    ]
    assert len(set(images)) == 4 * len(classes)


def test_two_processes_write_the_bytes_of_one(written: tuple[str, Path], tmp_path: Path) -> None:
    dataset, folder = written
    calls = write(dataset, tmp_path, processes=2)
    assert hashes_of(tmp_path) == hashes_of(folder)
    assert calls == [(done, len(calls)) for done in range(1, len(calls) + 1)]
    assert len(calls) == SMALL[dataset].images_per_class * len(SETS[dataset].classes)


NAMES = {
    "pbc": r"PBC_dataset_normal_DIB/(?P<label>\w+)/[A-Z]{2,10}_\d{6}\.jpg",
    "busi": r"Dataset_BUSI_with_GT/(?P<label>\w+)/(?P=label) \(\d+\)\.png",
}


def test_files_have_the_names_of_the_real_archive(written: tuple[str, Path]) -> None:
    dataset, folder = written
    rows = rows_of(folder)
    for row in rows:
        match = re.fullmatch(NAMES[dataset], row["file"])
        assert match
        assert match["label"] == row["class"]
    assert len({Path(row["file"]).stem for row in rows}) == len(rows)
    images = {name for name in hashes_of(folder) if not re.search(r"_mask(_\d)?\.png$|^shortcut/|\.csv$", name)}
    assert images == {row["file"] for row in rows}


def test_prefixes_stand_in_their_own_class(samples: Path, tmp_path: Path) -> None:
    write("pbc", tmp_path)

    def prefixes(root: Path) -> set[tuple[str, str]]:
        return {(path.parent.name, path.stem.split("_")[0]) for path in root.glob("PBC_dataset_normal_DIB/*/*.jpg")}

    ours, real = prefixes(tmp_path), prefixes(samples / "pbc")
    assert ours <= real | {("neutrophil", "NEUTROPHIL"), ("ig", "IG")}


def test_images_and_masks_have_the_modes_of_the_real_archive(written: tuple[str, Path]) -> None:
    dataset, folder = written
    for row in rows_of(folder):
        with Image.open(folder / row["file"]) as image:
            assert (image.mode, image.format) == ("RGB", {"pbc": "JPEG", "busi": "PNG"}[dataset])
            size = image.size
        for path in masks_of(folder, row["file"]):
            with Image.open(path) as mask:
                assert (mask.mode, mask.size) == ("1", size)
                empty = not np.asarray(mask).any()
            assert empty == (row["class"] == "normal")


def test_every_image_has_a_mask_and_a_few_have_two(written: tuple[str, Path]) -> None:
    dataset, folder = written
    counts = [len(masks_of(folder, row["file"])) for row in rows_of(folder)]
    assert set(counts) == {"pbc": {1}, "busi": {1, 2}}[dataset]


def test_near_copies_share_the_group_of_their_original(written: tuple[str, Path]) -> None:
    dataset, folder = written
    rows = {row["file"]: row for row in rows_of(folder)}
    copies = [row for row in rows.values() if row["kind"] == "near_copy"]
    params = SMALL[dataset]
    assert len(copies) == len(SETS[dataset].classes) * int(params.images_per_class * params.near_copy_fraction)
    for row in copies:
        original = rows[row["of"]]
        assert (original["kind"], original["class"], original["group"]) == ("original", row["class"], row["group"])
        assert (folder / row["file"]).read_bytes() != (folder / row["of"]).read_bytes()
    originals = [row["group"] for row in rows.values() if row["kind"] == "original"]
    assert len(set(originals)) == len(originals)


def test_near_copies_have_close_hashes(written: tuple[str, Path]) -> None:
    dataset, folder = written
    pairs = [(row["file"], row["of"]) for row in rows_of(folder) if row["kind"] == "near_copy"]
    distances = [
        imagehash.phash(Image.open(folder / one)) - imagehash.phash(Image.open(folder / other)) for one, other in pairs
    ]
    assert np.mean(np.array(distances) <= DISTANCES[dataset]) >= 0.85


def test_a_near_copy_takes_its_mask_along(written: tuple[str, Path]) -> None:
    _, folder = written
    for row in rows_of(folder):
        if row["kind"] == "near_copy":
            one, other = (np.asarray(Image.open(masks_of(folder, row[key])[0])) for key in ("file", "of"))
            assert (one != other).mean() < 0.05
            assert one.any() == other.any()


def test_a_label_conflict_is_the_same_bytes_under_another_label(written: tuple[str, Path]) -> None:
    dataset, folder = written
    conflicts = [row for row in rows_of(folder) if row["kind"] == "label_conflict"]
    assert len(conflicts) == SMALL[dataset].label_conflicts
    for row in conflicts:
        assert row["of"].split("/")[1] != row["class"]
        files, sources = ([folder / row[key], *masks_of(folder, row[key])] for key in ("file", "of"))
        assert [path.read_bytes() for path in files] == [path.read_bytes() for path in sources]
        assert row["group"] in {other["group"] for other in rows_of(folder) if other["file"] == row["of"]}


def test_tags_stand_in_the_stated_share_with_their_masks_apart(written: tuple[str, Path]) -> None:
    _, folder = written
    rows = rows_of(folder)
    tagged = [row for row in rows if (folder / "shortcut" / row["class"] / f"{Path(row['file']).stem}.png").exists()]
    assert len(tagged) == len(list((folder / "shortcut").rglob("*.png")))
    assert len(tagged) / len(rows) == pytest.approx(0.5, abs=0.2)
    for row in tagged[:5]:
        tag = np.asarray(Image.open(folder / "shortcut" / row["class"] / f"{Path(row['file']).stem}.png"))
        saturation = np.asarray(Image.open(folder / row["file"]).convert("HSV"))[..., 1]
        assert saturation[tag].mean() > saturation[~tag].mean() + 40


def test_near_copies_fill_the_fraction_in_every_prefix() -> None:
    recipe = Recipe("busi", SMALL["busi"].model_copy(update={"near_copy_fraction": 0.1}), 0)
    origins = [original_of(recipe, "benign", index) for index in range(60)]
    copies = [index for index, origin in enumerate(origins) if origin != index]
    assert len(copies) == 6
    assert all(origins[index] < index and origins[index] not in copies for index in copies)
