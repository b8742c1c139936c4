"""The promotion log: only appended to, read past a broken line, replayed for aliases and for going back."""

import json
import logging

import pytest

from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.change import Holder, Move
from pipeline.promotion.log import append, before_last, read, wanted_aliases

NAME = "busi-classifier"


def holder(version):
    return Holder(version=version, checkpoint_sha256=f"sha of {version}") if version else None


def move(before, after, action="promote", name=NAME, alias="champion"):
    """Each of `before` and `after` is `champion challenger`, `-` for none."""
    sides = (dict(zip(("champion", "challenger"), text.replace("-", " "), strict=True)) for text in (before, after))
    before, after = ({alias: holder(version.strip()) for alias, version in side.items()} for side in sides)
    return Move(
        model_name=name, dataset="busi", action=action, alias=alias, by="Ada", at="2026-01-01T00:00:00+00:00", why="",
        before=before, after=after, decision=None,
    )  # fmt: skip


FIRST, SECOND, THIRD = move("--", "1-"), move("1-", "21"), move("21", "32")


def champion(holders):
    return holders["champion"].version


def test_lines_come_back_as_they_were_appended(tmp_path):
    for each in (FIRST, SECOND):
        append(tmp_path / "log", each)
    assert read(tmp_path / "log") == [FIRST, SECOND]
    assert read(tmp_path / "none") == []


def test_a_line_has_what_an_audit_asks_for(tmp_path):
    append(tmp_path / "log", SECOND)
    line = json.loads((tmp_path / "log").read_text())
    assert {"schema_version", "model_name", "dataset", "action", "by", "at", "why", "decision"} <= line.keys()
    assert line["before"]["challenger"] is None
    assert line["after"]["champion"] == {"version": "2", "checkpoint_sha256": "sha of 2"}


def test_what_was_written_is_never_changed(tmp_path):
    append(tmp_path / "log", FIRST)
    before = (tmp_path / "log").read_bytes()
    append(tmp_path / "log", SECOND)
    assert (tmp_path / "log").read_bytes().startswith(before)


def test_a_line_broken_by_a_power_cut_is_named_skipped_and_left(tmp_path, caplog):
    log = tmp_path / "log"
    append(log, FIRST)
    cut = log.read_bytes() + SECOND.line.encode()[:40]
    log.write_bytes(cut)
    with caplog.at_level(logging.WARNING):
        assert read(log) == [FIRST]
    assert "line 2 is broken and skipped" in caplog.text
    append(log, THIRD)
    assert log.read_bytes().startswith(cut + b"\n")
    assert read(log) == [FIRST, THIRD]


def test_a_whole_line_of_another_program_is_refused(tmp_path):
    (tmp_path / "log").write_text('{"schema_version": 2}\n')
    with pytest.raises(StudyError, match=r"log: line 1: .*written by a newer version"):
        read(tmp_path / "log")


def test_the_aliases_wanted_are_those_of_the_last_word_on_each():
    shadow = FIRST.model_copy(update={"alias": "shadow", "before": {"shadow": None}, "after": {"shadow": holder("7")}})
    assert wanted_aliases([FIRST, shadow, SECOND, move("--", "9-", name="other")], NAME) == {
        "champion": "sha of 2", "challenger": "sha of 1", "shadow": "sha of 7",
    }  # fmt: skip
    assert wanted_aliases([FIRST, SECOND, move("21", "2-")], NAME) == {"champion": "sha of 2"}


def test_going_back_twice_goes_back_two_promotions():
    log = [FIRST, SECOND, THIRD]
    assert before_last(log, NAME) == THIRD.before
    log.append(move("32", "21", action="rollback"))
    assert before_last(log, NAME) == SECOND.before
    log.append(move("21", "1-", action="rollback"))
    with pytest.raises(RefusalError, match="no earlier champion"):
        before_last(log, NAME)


def test_after_going_back_a_promotion_starts_from_there():
    log = [FIRST, SECOND, move("21", "1-", action="rollback"), move("1-", "31")]
    assert champion(before_last(log, NAME)) == "1"


def test_moves_of_the_challenger_alone_are_no_promotions_to_go_back_on():
    assert before_last([FIRST, SECOND, move("21", "23", alias="challenger")], NAME) == SECOND.before


def test_a_champion_set_by_hand_and_judged_afterwards_can_be_gone_back_on():
    assert champion(before_last([FIRST, move("2-", "2-")], NAME)) == "1"


@pytest.mark.parametrize("log", [[], [FIRST], [move("--", "9-", name="other"), move("9-", "8-", name="other")]])
def test_without_an_earlier_champion_there_is_no_way_back(log):
    with pytest.raises(RefusalError, match=f"{NAME}: no earlier champion to go back to"):
        before_last(log, NAME)
