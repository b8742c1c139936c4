"""A user's own set: what its entry in params.yaml may say, and where its images and masks lie."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.data import DATASETS, spec_of
from pipeline.data.index import scan_folder
from pipeline.errors import StudyError
from pipeline.params import DatasetParams
from pipeline.spec import Layout
from tests.data.sets import own_spec, write


def entry(**keys: object) -> DatasetParams:
    return DatasetParams.model_validate({"source": "scans", "duplicate_distance": 4, **keys})


def test_nothing_is_taken_for_granted_of_a_set_that_says_nothing() -> None:
    spec = spec_of("mine", entry(kind="folder"))
    assert (spec.name, spec.title, spec.kind) == ("mine", "mine", "")
    assert (spec.classes, spec.flips, spec.colour, spec.traits) == ((), (), False, ())
    assert spec.layout == Layout()


def test_the_entry_describes_the_set() -> None:
    spec = spec_of(
        "mine",
        entry(
            kind="folder", title="My scans", classes=["b", "a"], flips=["horizontal"], colour=True, evidence="lump",
            without_evidence=["a"], traits=["burnt_in_marks"], masks="outlines", table="/elsewhere/index.csv",
            groups="patient", curated="list.csv", licence="CC0", citation="Me, 2026",
        ),
    )  # fmt: skip
    assert (spec.classes, spec.title, spec.evidence, spec.licence) == (("b", "a"), "My scans", "lump", "CC0")
    assert spec.layout == Layout(table="index.csv", groups="patient", masks="outlines", curated="list.csv")


def test_a_public_set_is_known_by_its_name_or_kind() -> None:
    assert spec_of("busi", entry()) == DATASETS["busi"]
    second = spec_of("busi_curated", entry(kind="busi", curated="list.csv"))
    assert (second.name, second.kind, second.classes) == ("busi_curated", "busi", DATASETS["busi"].classes)


REFUSED = {
    "an unknown kind": ("mine", {}, r"datasets\.mine\.kind: mine is unknown; choose from pbc, busi, folder, medmnist"),
    "a public set's own": ("busi", {"classes": ["a", "b"]}, r"datasets\.busi\.classes: busi has its own"),
    "no table": ("mine", {"kind": "folder", "groups": "patient"}, r"datasets\.mine\.groups: .* add datasets\.mine\.t"),
    "a trait": ("mine", {"kind": "folder", "traits": ["age"]}, r"traits: unknown age; choose from acquisition_batch"),
    "a class": ("mine", {"kind": "folder", "classes": ["a", "b"], "without_evidence": ["c"]}, "c is none of the class"),
    "two tables of one name": (
        "m",
        {"kind": "folder", "table": "a/t.csv", "curated": "/b/T.csv"},
        r"datasets\.m\.curated: is called T\.csv, as",
    ),
    "a table for MedMNIST": ("m", {"kind": "medmnist", "table": "t.csv"}, "neither table nor masks"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_entry_that_contradicts_itself_is_refused_by_its_key(case: str) -> None:
    name, keys, message = REFUSED[case]
    with pytest.raises(StudyError, match=message):
        spec_of(name, entry(**keys))


@pytest.mark.parametrize("keys", [{"classes": ["a/b"]}, {"sha256": "12"}, {"flips": ["diagonal"]}, {"sources": "x"}])
def test_a_value_that_cannot_be_is_refused_when_params_are_read(keys: dict) -> None:
    with pytest.raises(ValidationError):
        entry(kind="folder", **keys)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"")


def test_the_classes_are_the_folders_that_hold_images(tmp_path: Path) -> None:
    touch(tmp_path, "top/no finding/1.png", "top/Pneumonia/2.jpg", "top/Pneumonia/3.dcm", "notes.txt", "top/x.csv")
    touch(tmp_path, "masks/no finding/9.png")
    found = scan_folder(tmp_path, own_spec(layout=Layout(masks="masks")), "the set")
    assert found.classes == ("Pneumonia", "no finding")
    assert found.orphan_masks == ("masks/no finding/9.png",)


def test_named_classes_are_found_at_any_depth_and_other_folders_are_strays(tmp_path: Path) -> None:
    touch(tmp_path, "top/no finding/1.png", "top/Pneumonia/a/2.jpg", "other/4.png")
    found = scan_folder(tmp_path, own_spec(classes=("pneumonia", "no finding")), "the set")
    assert [image.class_name for image in found.images] == ["pneumonia", "no finding"]
    assert found.strays == ("other/4.png",)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("ill/1.png", "masks/ill/1.png"),
        ("images/ill/1.jpg", "masks/ill/1.png"),
        ("images/ill/1.jpg", "Masks/ill/1_mask.png"),
        ("ill/1.png", "ill/masks/1.png"),
        ("set/images/ill/1.png", "set/masks/ill/1_mask_2.png"),
        ("photos/ill/1.png", "masks/ill/1.tif"),
    ],
)
def test_a_folder_of_masks_mirrors_that_of_the_images(tmp_path: Path, image: str, mask: str) -> None:
    touch(tmp_path, image, mask, "well/9.png")
    found = scan_folder(tmp_path, own_spec(("ill", "well"), layout=Layout(masks="masks")), "the set")
    assert {one.file: one.masks for one in found.images} == {image: (mask,), "well/9.png": ()}


def test_the_layout_of_curated_busi_is_read_without_being_told(tmp_path: Path) -> None:
    names = ["benign_id_1", "malignant_id_2", "normal_id_3"]
    touch(tmp_path, *(f"Curated BUSI/images/{name}.png" for name in names))
    touch(tmp_path, *(f"Curated BUSI/masks/{name}_mask.png" for name in names))
    found = scan_folder(tmp_path, DATASETS["busi"], "the set")
    assert [(image.class_name, len(image.masks)) for image in found.images] == [
        ("benign", 1),
        ("malignant", 1),
        ("normal", 1),
    ]
