"""Wherever a kill cuts DVC's own files off, DVC takes what is left of them after the mending."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.mending import LOCK_FILE, RWLOCK, mend_dvc

FETCH = {
    "cmd": "python -m flows.fetch",
    "outs": [{"path": "data/raw", "md5": "a1" * 16 + ".dir", "size": 3, "nfiles": 1}],
}
REPORT = {
    "cmd": "python -m flows.report",
    "params": {"params.yaml": {"study.seed": 0, "study.models": ["vit", "deit"]}},
}
WHOLE = {"schema": "2.0", "stages": {"fetch@busi": FETCH, "report": REPORT}}


@pytest.fixture(autouse=True)
def _checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RWLOCK.parent.mkdir(parents=True)


def left_of(text):
    """Of a dvc.lock that holds the text."""
    LOCK_FILE.write_text(text)
    mend_dvc()
    return yaml.safe_load(LOCK_FILE.read_text()) if LOCK_FILE.exists() else None


def test_a_lock_file_that_was_cut_off_anywhere_is_one_that_dvc_takes():
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    text = yaml.safe_dump(WHOLE, sort_keys=False)
    for length in range(0, len(text), 7):
        if (left := left_of(text[:length])) is not None:
            COMPILED_LOCKFILE_SCHEMA(left)


def test_stages_that_are_whole_stay():
    text = yaml.safe_dump(WHOLE, sort_keys=False)
    assert left_of(text) == WHOLE
    assert left_of(text[: text.index("study.seed") + 3])["stages"] == {"fetch@busi": FETCH}
    assert left_of(text[: text.index("outs")]) == {"schema": "2.0", "stages": {"fetch@busi": {"cmd": FETCH["cmd"]}}}
    assert left_of("") is None


def test_who_is_gone_is_not_named_any_more_and_who_is_at_work_is_waited_for(monkeypatch, caplog):
    living = subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE)
    entries = {"data": [{"pid": living.pid, "cmd": "dvc repro"}], "old": [{"pid": 2**22 + 1, "cmd": "dvc repro"}]}
    entries["other"] = [{"pid": os.getpid(), "cmd": "dvc repro"}]  # its number went to a process that is no DVC
    RWLOCK.write_text(json.dumps({"write": {"old": entries["old"][0]}, "read": entries}))
    seen = []

    def end_the_living(seconds):
        seen.append(json.loads(RWLOCK.read_text()))
        living.communicate(b"\n")

    monkeypatch.setattr("time.sleep", end_the_living)
    mend_dvc()
    assert seen == [{"write": {}, "read": {"data": entries["data"]}}]
    assert caplog.messages == [f"DVC is at a stage here (process {living.pid}); waiting until that is done"]
    assert json.loads(RWLOCK.read_text()) == {"write": {}, "read": {}}


def test_a_list_of_processes_that_was_cut_off_is_begun_anew():
    for text in ("", '{"write": {"da'):
        RWLOCK.write_text(text)
        mend_dvc()
        assert json.loads(RWLOCK.read_text()) == {"write": {}, "read": {}}


def test_where_dvc_never_ran_there_is_nothing_to_mend(tmp_path, monkeypatch):
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path / "new")
    mend_dvc()
    assert list(Path().iterdir()) == []
