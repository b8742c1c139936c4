"""Lists that others made of a set: duplicates, objections, what to keep; in the forms in which they are published."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.prepared import load_prepared
from pipeline.data.preparing.curated import Curation, read_curation
from pipeline.data.sets.busi import BUSI
from pipeline.errors import StudyError
from pipeline.spec import Layout
from tests.data.sets import make_busi, prepare, write

FILES = ("top/benign/benign (1).png", "top/benign/benign (2).png", "top/normal/normal (1).png")


def read(folder: Path, text: str) -> Curation:
    write(folder / "list.csv", text.encode())
    return read_curation(folder, FILES, "list.csv", "the set")


def test_the_published_table_of_busi_gives_groups_and_objections(tmp_path: Path) -> None:
    table = "ID;Filename;Objection;Annotation\n1;benign (1).png;;text\n1;normal (1).png;axilla;\n2;benign (2).png;;\n"
    found = read(tmp_path, table)
    assert found.groups == {FILES[0]: {"1"}, FILES[2]: {"1"}, FILES[1]: {"2"}}
    assert [(entry.file, entry.reason) for entry in found.objections] == [(FILES[2], "list.csv: axilla")]
    assert found.left_out == ()


def test_the_published_list_of_curated_busi_keeps_what_it_names(tmp_path: Path) -> None:
    found = read(tmp_path, "class;id\nbenign;2\nnormal;1\nbenign;999\n")
    assert [(entry.file, entry.reason) for entry in found.left_out] == [
        (FILES[0], "not among the images that list.csv keeps")
    ]


@pytest.mark.parametrize("absent", ["benign (999)", ".", '""', "/", "cell.v2"])
def test_rows_that_name_no_image_are_told_once(tmp_path: Path, absent: str, caplog: pytest.LogCaptureFixture) -> None:
    found = read(tmp_path, f"file,objection\nbenign (1).png,axilla\n{absent},axilla\nbenign (77).png,needle\n")
    shown = absent.replace('""', "an empty cell")
    reason = f"2 rows name no image of the set that can be read, for example {shown}"
    assert [(entry.file, entry.reason) for entry in found.objections_to(FILES[1:])] == [("list.csv", reason)]
    assert f"list.csv: {reason}" in caplog.text


def test_pairs_link_all_that_they_name(tmp_path: Path) -> None:
    found = read(tmp_path, "file,group\nbenign (1).png,1\nbenign (2).png,1\nbenign (2).png,2\nnormal (1).png,2\n")
    assert found.groups == {FILES[0]: {"1"}, FILES[1]: {"1", "2"}, FILES[2]: {"2"}}


def test_several_objections_to_an_image_are_joined(tmp_path: Path) -> None:
    found = read(tmp_path, "file,objection\nbenign (1).png,axilla\nbenign (1).png,needle\nbenign (1).png,axilla\n")
    assert [entry.reason for entry in found.objections] == ["list.csv: axilla; needle"]


@pytest.mark.parametrize("no", ["", "no", "No", "0", "false", "FALSE"])
def test_a_cell_that_says_no_drops_and_keeps_nothing(tmp_path: Path, no: str) -> None:
    assert read(tmp_path, f"file,drop\nbenign (1).png,{no}\n").left_out == ()
    kept = read(tmp_path, f"file,keep\nbenign (1).png,{no}\nbenign (2).png,yes\n")
    assert [entry.file for entry in kept.left_out] == [FILES[0], FILES[2]]


def test_a_list_of_files_alone_keeps_what_it_names(tmp_path: Path) -> None:
    assert [entry.file for entry in read(tmp_path, "filename\nnormal (1)\n").left_out] == list(FILES[:2])


def test_a_name_in_another_format_means_the_same_image(tmp_path: Path) -> None:
    write(tmp_path / "list.csv", b"file,drop\ncell.v2.bmp,blurred\n")
    found = read_curation(tmp_path, ["a/cell.png", "a/cell.v2.png"], "list.csv", "the set")
    assert [entry.file for entry in found.left_out] == ["a/cell.v2.png"]


def test_a_reason_to_drop_is_told(tmp_path: Path) -> None:
    found = read(tmp_path, "file,drop,group\nbenign (1),axilla,\nbenign (2).bmp,,7\n")
    assert [(entry.file, entry.reason) for entry in found.left_out] == [(FILES[0], "left out by list.csv: axilla")]
    assert found.groups == {FILES[1]: {"7"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,group\nbenign (1),3\n", r"list\.csv: has no column file; it has name, group"),
        ("file\nmalignant (1).png\n", r"list\.csv: names no image of the set, but for example malignant \(1\)\.png"),
        (
            "file,note,age\nbenign (1),x,3\n",
            "besides file it has note, age, none of which is understood; group, objection",
        ),
        ("file\n", "names no image of the set"),
    ],
)
def test_a_list_of_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        read(tmp_path, text)


def test_a_list_of_pairs_keeps_a_chain_together_and_the_audit_names_what_it_lacks(tmp_path: Path) -> None:
    raw = make_busi(tmp_path / "raw", 6).parent
    pairs = "benign (0),1\nbenign (1),1\nbenign (1),2\nbenign (2),2\nbenign (99),3\n"
    write(raw / "pairs.csv", f"file,group\n{pairs}".encode())
    audit = prepare(raw, tmp_path / "prepared", spec=replace(BUSI, layout=Layout(curated="pairs.csv")))
    index = load_prepared(tmp_path / "prepared").index
    chain = index[index["file"].str.contains(r"benign \([012]\)")]
    assert (len(chain), chain["group"].nunique(), chain["split"].nunique()) == (3, 1, 1)
    assert audit.links == {"curated": 2}
    assert [entry.file for entry in audit.flagged] == ["pairs.csv"]
