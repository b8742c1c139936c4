"""Lists that others made of a set: duplicates, objections, what to keep; in the forms in which they are published."""

from pathlib import Path

import pytest

from pipeline.data.preparing.curated import Curation, read_curation
from pipeline.errors import StudyError
from tests.data.sets import write

FILES = ("top/benign/benign (1).png", "top/benign/benign (2).png", "top/normal/normal (1).png")


def read(folder: Path, text: str) -> Curation:
    write(folder / "list.csv", text.encode())
    return read_curation(folder, FILES, "list.csv", "the set")


def test_the_published_table_of_busi_gives_groups_and_objections(tmp_path: Path) -> None:
    table = "ID;Filename;Objection;Annotation\n1;benign (1).png;;text\n1;normal (1).png;axilla;\n2;benign (2).png;;\n"
    found = read(tmp_path, table)
    assert found.groups == {FILES[0]: "1", FILES[2]: "1", FILES[1]: "2"}
    assert [(entry.file, entry.reason) for entry in found.objections] == [(FILES[2], "list.csv: axilla")]
    assert found.left_out == ()


def test_the_published_list_of_curated_busi_keeps_what_it_names(tmp_path: Path) -> None:
    found = read(tmp_path, "class;id\nbenign;2\nnormal;1\nbenign;999\n")
    assert [(entry.file, entry.reason) for entry in found.left_out] == [
        (FILES[0], "not among the images that list.csv keeps")
    ]
    assert found.unknown == 1


def test_a_reason_to_drop_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, "file,drop,group\nbenign (1),axilla,\nbenign (2).bmp,,7\n")
    assert [(entry.file, entry.reason) for entry in found.left_out] == [(FILES[0], "left out by list.csv: axilla")]
    assert found.groups == {FILES[1]: "7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,group\nbenign (1),3\n", r"list\.csv: has no column file; it has name, group"),
        ("file\nmalignant (1).png\n", r"list\.csv: names no image of the set, but for example malignant \(1\)\.png"),
        ("file\n", "names no image of the set"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read(tmp_path, text)
