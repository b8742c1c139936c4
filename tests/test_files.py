"""Files and folders are whole or absent, whatever ends the writing."""

from contextlib import suppress

import pytest

from pipeline.files import sha256_of, told, whole_file, whole_folder, write_text


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("half")
        assert not path.exists()
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_file_and_leaves_no_half(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with suppress(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_the_old_one_only_when_it_is_whole(tmp_path):
    path = tmp_path / "set"
    with whole_folder(path) as partial:
        (partial / "old").write_text("")
    with suppress(ValueError), whole_folder(path) as partial:
        (partial / "new").write_text("")
        raise ValueError("stop")
    assert [file.name for file in path.iterdir()] == ["old"]


def test_a_half_folder_of_a_killed_run_is_thrown_away(tmp_path):
    (tmp_path / "set.partial").mkdir()
    (tmp_path / "set.partial" / "left").write_text("from a killed run")
    with whole_folder(tmp_path / "set") as partial:
        (partial / "mine").write_text("")
    assert [file.name for file in (tmp_path / "set").iterdir()] == ["mine"]


def test_the_hash_is_over_content_in_order(tmp_path):
    a, b, joined = tmp_path / "a", tmp_path / "b", tmp_path / "joined"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    joined.write_bytes(b"onetwo")
    assert sha256_of(a, b) == sha256_of(joined) != sha256_of(b, a)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("phantom", "phantom"),
        ("scans/skin", "scans/skin"),
        ("/home/jane/scans.zip", "scans.zip"),
        ("~/scans", "scans"),
        ("C:\\Users\\jane\\scans.zip", "scans.zip"),
        ("https://jane:secret@example.org/scans.zip?token=secret", "https://example.org/scans.zip"),
    ],
)
def test_what_others_read_tells_no_place_on_this_machine_and_no_secret(text, shown):
    assert told(text) == shown
