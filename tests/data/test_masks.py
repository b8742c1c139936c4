"""Which files are masks where nobody says so, and of which image; sets whose names leave it open are refused."""

import sys
from pathlib import Path

import pytest

from pipeline.data.index import Scan, scan_folder
from pipeline.errors import StudyError
from pipeline.spec import Layout
from tests.data.sets import own_spec, write


def scan(folder: Path, *names: str, classes: tuple[str, ...] = ()) -> Scan:
    for name in names:
        write(folder / name, b"")
    return scan_folder(folder, own_spec(classes), "the set")


def masks_of(found: Scan) -> dict[str, tuple[str, ...]]:
    return {image.file: image.masks for image in found.images}


@pytest.mark.parametrize("classes", [(), ("ill", "well")])
def test_a_folder_called_masks_that_mirrors_the_images_holds_masks(tmp_path: Path, classes: tuple[str, ...]) -> None:
    names = [f"{kind}/{name}.png" for kind in ("images", "Masks") for name in ("ill/1", "ill/2", "well/1")]
    found = scan(tmp_path, *names, "Masks/ill/9.png", classes=classes)
    assert found.classes == ("ill", "well")
    assert masks_of(found) == {name: (name.replace("images", "Masks"),) for name in names[:3]}
    assert found.orphan_masks == ("Masks/ill/9.png",)


def test_masks_may_be_a_class_where_params_name_it(tmp_path: Path) -> None:
    found = scan(tmp_path, "masks/1.png", "faces/1.png", classes=("masks", "faces"))
    assert masks_of(found) == {"masks/1.png": (), "faces/1.png": ()}


def test_a_mask_that_may_be_of_two_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"the mask masks/1\.png may be of ill/1\.png or well/1\.png; let its folder"):
        scan(tmp_path, "masks/1.png", "ill/1.png", "well/1.png", classes=("ill", "well"))


def test_of_several_folders_beside_the_masks_that_of_the_images_counts(tmp_path: Path) -> None:
    names = [f"{kind}/{name}/1.png" for kind in ("images", "copies", "masks") for name in ("ill", "well")]
    found = scan(tmp_path, *names, classes=("ill", "well"))
    assert masks_of(found)["images/ill/1.png"] == ("masks/ill/1.png",)
    assert masks_of(found)["copies/ill/1.png"] == ()


def test_an_image_may_be_called_as_its_class_that_ends_in_mask(tmp_path: Path) -> None:
    named = ["with_mask/with_mask.png", "with_mask/With_Mask_7.png", "without_mask/without_mask_1.png"]
    found = scan(
        tmp_path, *named, "with_mask/with_mask_7.png", "with_mask/with_mask_7_mask.png", "with_mask/a_mask.png"
    )
    assert found.classes == ("with_mask", "without_mask")
    assert masks_of(found) == dict.fromkeys(named, ()) | {
        "with_mask/with_mask_7.png": ("with_mask/with_mask_7_mask.png",)
    }
    assert found.orphan_masks == ("with_mask/a_mask.png",)


def test_a_class_whose_files_are_all_called_as_masks_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        StudyError, match=r"images named surgical; every class needs one; surgical/a_mask\.png is called"
    ):
        scan(tmp_path, "surgical/a_mask.png", "cloth/1.png", classes=("surgical", "cloth"))


def test_a_mask_of_a_mask_is_an_orphan(tmp_path: Path) -> None:
    found = scan(tmp_path, "ill/a.png", "ill/a_mask.png", "ill/a_mask_mask.png", "well/b.png")
    assert masks_of(found) == {"ill/a.png": ("ill/a_mask.png",), "well/b.png": ()}
    assert found.orphan_masks == ("ill/a_mask_mask.png",)


UNCLEAR = {
    "patients": (["ill/p1/0.png", "well/p2/0.png"], r"images lie in ill/p1 and in well/p2, .*name `classes` in params"),
    "a class in a class": (["top/ill/1.png", "top/ill/a/2.png"], "images lie in top/ill and in top/ill/a"),
    "parts": (["train/ill/1.png", "test/ill/2.png"], "images lie in test/ill and in train/ill"),
    "no folder": (["1.png", "ill/2.png"], "some images lie in no folder"),
    "a folder of masks that mirrors nothing": (
        ["images/ill/1.png", "images/well/2.png", "masks/ill/1_outline.png"],
        "masks/ill is called as a folder of masks, but holds none of an image of the same name",
    ),
    "a folder of nothing but masks": (
        ["ill/1.png", "well/2.png", "outlines/1_mask.png"],
        r"outlines/1_mask\.png and all beside it are called as masks, but their images are not there",
    ),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_classes_that_cannot_be_told_by_folders_are_refused(tmp_path: Path, case: str) -> None:
    names, message = UNCLEAR[case]
    with pytest.raises(StudyError, match=message):
        scan(tmp_path, *names)


def test_named_classes_need_no_folders_of_one_place(tmp_path: Path) -> None:
    names = ["ill/p1/0.png", "well/p2/0.png", "well/0.png"]
    assert [image.file for image in scan(tmp_path, *names, classes=("ill", "well")).images] == sorted(names)


def calls_to_scan(folder: Path, patients: int) -> int:
    """How many functions are called for a set of one image and one mask of each patient, half of them listed."""
    names = [f"p{number}/ill/{number}.png" for number in range(patients)]
    masks = [f"masks/{name.removeprefix('p').partition('/')[2]}" for name in names]
    rows = "".join(f"{name},{'ill' if number % 4 else 'well'}\n" for number, name in enumerate(names[::2]))
    write(folder / "index.csv", f"file,class\n{rows}".encode())
    for name in (*names, *masks):
        write(folder / name, b"")
    spec, calls = own_spec(layout=Layout(table="index.csv")), []
    sys.setprofile(lambda frame, event, arg: calls.append(event) if event == "call" else None)
    try:
        found = scan_folder(folder, spec, "the set")
    finally:
        sys.setprofile(None)
    assert (len(found.images), len(found.unlisted)) == (patients / 2, patients / 2)
    assert all(image.masks for image in found.images)
    return len(calls)


def test_the_work_grows_with_the_files_and_no_faster(tmp_path: Path) -> None:
    assert calls_to_scan(tmp_path / "more", 900) < 3.02 * calls_to_scan(tmp_path / "few", 300)
