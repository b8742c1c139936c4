"""A set's own table: which file each row means, and what it may say."""

from pathlib import Path

import pytest

from pipeline.data.index import Scan, scan_folder
from pipeline.errors import StudyError
from pipeline.spec import Layout
from tests.data.sets import own_spec, write

HEAD = "file,class,split,patient,mask\n"


def scan(folder: Path, table: str) -> Scan:
    write(folder / "index.csv", table.encode())
    return scan_folder(folder, own_spec(layout=Layout(table="index.csv", groups="patient")), "the set")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        write(folder / name, b"")


def test_a_row_gives_class_split_patient_and_masks(tmp_path: Path) -> None:
    touch(tmp_path, "scans/1.png", "scans/2.png", "outlines/a.png", "outlines/b.png")
    found = scan(tmp_path, HEAD + "1.png,healthy,train,p1,\n2.png,ill,val,p2,outlines/a.png|b.png\n")
    told = [(image.file, image.class_name, image.split, image.group, image.masks) for image in found.images]
    assert told == [
        ("scans/1.png", "healthy", "train", "p1", ()),
        ("scans/2.png", "ill", "validation", "p2", ("outlines/a.png", "outlines/b.png")),
    ]
    assert found.classes == ("healthy", "ill")


def test_without_a_class_column_the_folder_tells(tmp_path: Path) -> None:
    touch(tmp_path, "ill/1.png", "healthy/2.png")
    found = scan(tmp_path, "file,patient\n1.png,p1\nhealthy/2.png,p2\n")
    assert [(image.class_name, image.group) for image in found.images] == [("healthy", "p2"), ("ill", "p1")]


def test_files_are_found_by_path_name_or_stem_however_they_are_spelt(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "b/cafe\u0301.png", "b/three.dcm")
    rows = ["a\\1.png,x,p", "./b/1.png,y,p", "caf\u00e9.png,x,p", "three,y,p"]
    found = scan(tmp_path, "file;class;patient\n" + "\n".join(rows).replace(",", ";"))
    assert [image.class_name for image in found.images] == ["x", "y", "x", "y"]


def test_unlisted_images_and_absent_files_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    found = scan(tmp_path, "file,class,patient\n1.png,x,p\n2.png,y,p\nlost.png,x,p\n")
    assert (found.unlisted, found.absent) == (("3.png",), ("lost.png",))
    assert [image.file for image in found.images] == ["1.png", "2.png"]


def test_a_bare_name_means_an_image_or_a_mask_by_its_column(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "images/2.png", "masks/1.png", "masks/2.png")
    found = scan(tmp_path, HEAD + "1.png,x,train,p,2.png\n2.png,y,train,p,\n")
    assert [(image.file, image.masks) for image in found.images] == [
        ("images/1.png", ("masks/2.png",)),
        ("images/2.png", ()),
    ]
    assert (found.unlisted, found.litter) == ((), 0)


def test_a_mask_does_not_stand_in_for_its_absent_image(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.png", "images/2.png", "masks/1.png", "masks/3.png")
    found = scan(tmp_path, "file,class,patient\n1.png,x,p\n2.png,y,p\n3.png,x,p\n/home/me/images/3.png,x,p\n")
    assert found.absent == ("3.png", "/home/me/images/3.png")


def test_files_that_are_called_as_masks_are_images_where_the_table_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "masks/1.png", "x/a_mask.png", "y/2.png")
    found = scan(tmp_path, "file,class,patient\nmasks/1.png,x,p\na_mask.png,y,p\n2.png,y,p\n")
    assert [image.file for image in found.images] == ["masks/1.png", "x/a_mask.png", "y/2.png"]


def test_files_named_as_masks_are_not_unlisted(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "outlines/one.png", "outlines/two.png")
    found = scan(tmp_path, HEAD + "1.png,x,train,p,one.png\n2.png,y,train,p,/home/me/outlines/two.png\n")
    assert [image.masks for image in found.images] == [("outlines/one.png",), ("outlines/two.png",)]
    assert found.unlisted == ()


def test_a_byte_order_mark_and_spaces_do_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    assert len(scan(tmp_path, "\ufeffFile , Class,Patient\n 1.png , x,p\n2.png,y ,p\n").images) == 2


REFUSED = {
    "no column file": ("image,class\n1.png,x\n", "index.csv: has no column file; it has image, class"),
    "no column of groups": ("file,class\n1.png,x\n", "index.csv: has no column patient; it has file, class"),
    "an empty cell": ("file,class,patient\n1.png,x,p\n2.png,,p\n", "class is empty for 2.png; fill it"),
    "an empty patient": ("file,class,patient\n1.png,x,\n2.png,y,p\n", "patient is empty for 1.png"),
    "a strange split": (HEAD + "1.png,x,later,p,\n", "split later is unknown; choose from train, validation, test"),
    "no file of the set": ("file,class,patient\nlost.png,x,p\n", "names no image of the set; its first row names lost"),
    "no rows": ("file,class,patient\n", "names no image of the set, as it has no rows"),
    "an empty file": ("file,class,patient\n1.png,x,p\n,y,p\n", "file is empty in 1 rows"),
    "its own mask": (
        HEAD + "1.png,x,train,p,1.png\n",
        "names a/1.png as an image and as a mask; write the path of each",
    ),
    "two paths": (
        "file,class,patient\n1.png,x,p\n/b/2.png,y,p\n/c/2.png,y,p\n",
        "a/2.png twice (as /b/2.png and as /c/",
    ),
    "two rows": ("file,class,patient\n1.png,x,p\n1,y,p\n", "lists a/1.png twice"),
    "two files": ("file,class,patient\n3.png,x,p\n", "3.png may be a/3.png or b/3.png; write the path"),
    "an absent mask": (HEAD + "1.png,x,train,p,m.png\n", "names the mask m.png, which the set lacks"),
    "a column twice": ("file,file\n1.png,1.png\n", "has the column file twice"),
    "one class": ("file,class,patient\n1.png,x,p\n2.png,x,p\n", "all images are in x; a set needs two classes"),
    "a hostile class": ("file,class,patient\n1.png,../x,p\n2.png,y,p\n", "'../x' cannot name a class"),
    "nothing": ("", "not a CSV table in UTF-8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, case: str) -> None:
    table, message = REFUSED[case]
    touch(tmp_path, "a/1.png", "a/2.png", "a/3.png", "b/3.png")
    with pytest.raises(StudyError) as refusal:
        scan(tmp_path, table)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_table_that_is_absent_or_there_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    with pytest.raises(StudyError, match=r"the set: no file is called index\.csv"):
        scan_folder(tmp_path, own_spec(layout=Layout(table="index.csv")), "the set")
    touch(tmp_path, "a/index.csv", "index.csv")
    with pytest.raises(StudyError, match=r"2 files are called index\.csv"):
        scan_folder(tmp_path, own_spec(layout=Layout(table="index.csv")), "the set")


def test_a_class_beside_those_of_params_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    write(tmp_path / "index.csv", b"file,class\n1.png,x\n2.png,y\n3.png,z\n")
    with pytest.raises(StudyError, match="class z stands in its table, but not under classes"):
        scan_folder(tmp_path, own_spec(classes=("x", "y"), layout=Layout(table="index.csv")), "the set")
