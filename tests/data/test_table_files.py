"""Tables as people save them, and the files that their rows mean."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.tables import FileNames, read_table
from pipeline.errors import StudyError
from tests.data.sets import write

WANTED = [{"file": "1.png", "class": "ill"}, {"file": "2.png", "class": "well, mostly"}]
SAVED = {
    "commas": 'file,class\n1.png,ill\n2.png,"well, mostly"\n',
    "semicolons": "file;class\n1.png;ill\n2.png;well, mostly\n",
    "tabs": "file\tclass\n1.png\till\n2.png\twell, mostly\n",
    "blank lines": '\n  \nfile,class\n\n1.png,ill\n,\n2.png,"well, mostly"\n\n',
    "ends of Windows": 'file,class\r\n1.png,ill\r\n2.png,"well, mostly"\r\n',
    "ends of old Macs": 'file,class\r1.png,ill\r2.png,"well, mostly"\r',
    "a byte order mark, capitals and spaces": '\ufeffFile , CLASS\n 1.png ,ill \n2.png,"well, mostly"',
    "empty cells of a spreadsheet": 'file,class\n1.png,ill,,\n2.png,"well, mostly",\n',
}


@pytest.mark.parametrize("case", SAVED)
def test_a_table_is_read_however_it_was_saved(tmp_path: Path, case: str) -> None:
    assert read_table(write(tmp_path / "t.csv", SAVED[case].encode())).to_dict("records") == WANTED


def test_a_cell_may_hold_a_line_break_and_a_row_may_end_early(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.csv", b'file,note,class\n1.png,"one\ntwo",ill\n2.png\n'))
    assert table.to_numpy().tolist() == [["1.png", "one\ntwo", "ill"], ["2.png", "", ""]]


REFUSED = {
    "a long row": (b'file,class\n"1.png","a\nb"\n2.png,well,mostly\n', "line 4 has 3 cells, but there are 2 columns"),
    "Latin-1": ("file,class\ncaf\u00e9.png,ill\n".encode("latin-1"), r"not a CSV table in UTF-8 \(.*0xe9.*\); save it"),
    "an open quote": (b'file,class\n1.png,"ill\n2.png,well\n', "not a CSV table in UTF-8"),
    "no line": (b"\n \n", "it is empty"),
    "a column twice": (b"file,Class,class\n", "has the column class twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_refused_by_its_name_alone(tmp_path: Path, case: str) -> None:
    content, message = REFUSED[case]
    with pytest.raises(StudyError, match=rf"^t\.csv: .*{message}") as refusal:
        read_table(write(tmp_path / "raw.partial" / "t.csv", content))
    assert "\n" not in str(refusal.value)


FILES = ("a/1.png", "b/1.png", "b/2.png", "B2/Scan.PNG", "b/cell.v2.jpg", "b/1.2.840", "5.png", "c/5.png")
MEANT = {
    "a/1.png": "a/1.png",
    "2": "b/2.png",
    "b2/SCAN.png": "B2/Scan.PNG",
    "scan": "B2/Scan.PNG",
    "cell.v2": "b/cell.v2.jpg",
    "cell": None,
    "1.2.840": "b/1.2.840",
    "1.2": None,
    "5.png": "5.png",  # the very path, though another ends so too
    "data/set/b/2.png": "b/2.png",
    "data/c/2.png": None,  # another folder's
    "/home/me/set/b/1.png": "b/1.png",
    "C:\\Users\\Me\\A\\1.PNG": "a/1.png",
    "C:\\elsewhere\\2.png": "b/2.png",
    "~/2.png": "b/2.png",
    "../b/2.png": "b/2.png",
    "/home/me/9.png": None,
    "": None,
    ".": None,
    "/": None,
}


@pytest.mark.parametrize("text", MEANT)
def test_a_text_means_the_file_whose_end_it_shares(text: str) -> None:
    found = FileNames(map(PurePosixPath, FILES)).find(text, "t.csv")
    assert found == (MEANT[text] and PurePosixPath(str(MEANT[text])))


PATHS = st.lists(st.lists(st.sampled_from("aAbc"), min_size=1, max_size=4).map("/".join), min_size=1, unique=True)


@given(PATHS)
def test_every_file_is_found_by_its_path_on_any_machine(names: list[str]) -> None:
    paths = [PurePosixPath(f"{name}.png") for name in names]
    files = FileNames(paths)
    for path in paths:
        for text in (str(path), f"/data/x/{path}", str(path).removesuffix(".png"), f"D:\\x\\{path}".replace("/", "\\")):
            assert files.find(text, "t.csv") == path


@pytest.mark.parametrize("text", ["1.png", "1", "/home/me/c/1.png", "1.PNG"])
def test_a_text_that_may_mean_two_files_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match=rf"t\.csv: {text} may be a/1\.png or b/1\.png; write the path"):
        FileNames(map(PurePosixPath, FILES)).find(text, "t.csv")


def test_case_tells_two_files_apart_where_it_can() -> None:
    names = FileNames(map(PurePosixPath, ("a/x.png", "b/X.png")))
    assert names.find("X.png", "t.csv") == PurePosixPath("b/X.png")
