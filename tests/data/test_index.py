"""Which file is an image of which class, and which is its mask."""

import os
from pathlib import Path

import pytest

from pipeline.data.index import Scan, scan_folder
from pipeline.data.sets.busi import BUSI
from pipeline.errors import StudyError
from pipeline.spec import Layout
from tests.data.sets import make_classes, own_spec, write


def scan(folder: Path) -> Scan:
    return scan_folder(folder, BUSI, "the set")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"")


@pytest.mark.parametrize("top", ["", "top/", "top/top/", "masks of mine_mask/"])
def test_class_folders_are_found_at_any_depth_in_any_case(tmp_path: Path, top: str) -> None:
    touch(tmp_path, f"{top}BENIGN/a.PNG", f"{top}Malignant/b.jpeg", f"{top}normal/deeper/c.bmp")
    assert [(image.file, image.class_name) for image in scan(tmp_path).images] == [
        (f"{top}BENIGN/a.PNG", "benign"),
        (f"{top}Malignant/b.jpeg", "malignant"),
        (f"{top}normal/deeper/c.bmp", "normal"),
    ]


def test_the_innermost_class_folder_counts(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    touch(tmp_path, "normal/benign/a.png")
    assert {image.file: image.class_name for image in scan(tmp_path).images}["normal/benign/a.png"] == "benign"


def test_masks_belong_to_the_image_of_their_name(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    touch(
        tmp_path, *(f"benign/benign (1){end}.png" for end in ("", "_mask", "_mask_1", "_mask_12")), "benign/cell.v2.jpg"
    )
    touch(tmp_path, "benign/cell.v2_mask.png", "malignant/benign (1).png", "benign/orphan_mask.png")
    found = scan(tmp_path)
    masks = {image.file: [Path(mask).name for mask in image.masks] for image in found.images}
    assert masks["benign/benign (1).png"] == ["benign (1)_mask.png", "benign (1)_mask_1.png", "benign (1)_mask_12.png"]
    assert masks["benign/cell.v2.jpg"] == ["cell.v2_mask.png"]
    assert masks["malignant/benign (1).png"] == []
    assert found.orphan_masks == ("benign/orphan_mask.png",)


def test_a_mask_is_found_whatever_way_its_accents_are_spelt(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    touch(tmp_path, "benign/cafe\u0301.png", "benign/caf\u00e9_mask.png")
    masks = {image.file: image.masks for image in scan(tmp_path).images}
    assert masks["benign/cafe\u0301.png"] == ("benign/caf\u00e9_mask.png",)


def test_litter_strays_and_planted_tags_are_no_images(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    touch(
        tmp_path,
        "benign/.DS_169665.jpg",
        "benign/._a.jpg",
        "benign/Thumbs.db",
        "normal/test.txt",
        "__MACOSX/benign/a.png",
    )
    touch(tmp_path, "figure.png", "all_captions.csv", "shortcut/benign/a.png")
    found = scan(tmp_path)
    assert len(found.images) == 3
    assert found.strays == ("figure.png",)
    assert found.litter == 6


def test_the_tables_of_the_set_are_no_litter(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "notes.txt", "meta/List.csv")
    write(tmp_path / "index.csv", b"file,class\n1.png,x\n2.png,y\n")
    spec = own_spec(layout=Layout(table="index.csv", curated="list.csv"))
    assert scan_folder(tmp_path, spec, "the set").litter == 1


def test_dicom_files_without_suffix_are_known_by_their_content(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    for name in ("IM000001", "1.2.840.113619.2.1", ".hidden", "notes.txt"):
        write(tmp_path / "benign" / name, bytes(128) + b"DICM")
    write(tmp_path / "benign" / "README", b"x" * 200)
    write(tmp_path / "benign" / "short", b"DICM")
    found = scan(tmp_path)
    named = ["1.2.840.113619.2.1", "IM000001", "benign_0.png"]
    assert [image.file for image in found.images if image.class_name == "benign"] == [f"benign/{n}" for n in named]
    assert found.litter == 4


def test_a_missing_class_is_refused_by_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "benign/a.png", "malignant/notes.txt")
    with pytest.raises(StudyError, match="the set: no folder with images named malignant, normal"):
        scan(tmp_path)


def test_a_set_without_images_is_refused_by_what_it_needs(tmp_path: Path) -> None:
    touch(tmp_path, "picture_1.png")
    with pytest.raises(StudyError, match=r"the set: no image of BUSI.*each of benign, malignant, normal"):
        scan(tmp_path)


def test_a_name_that_no_table_can_hold_is_refused(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    (tmp_path / "benign" / "a\rb.png").touch()
    with pytest.raises(StudyError, match="holds a carriage return"):
        scan(tmp_path)


def test_a_name_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    make_classes(tmp_path, BUSI)
    Path(os.fsdecode(bytes(tmp_path) + b"/benign/\xff.png")).touch()
    with pytest.raises(StudyError, match="not UTF-8"):
        scan(tmp_path)
