"""The promotion log: only appended to, read past a broken line, replayed for aliases and for going back."""

import hashlib
import json
import logging

import pytest

from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.change import Holder, Move
from pipeline.promotion.log import append, before_last, giver_of, moves_of, read, wanted_aliases

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


def gone_back_to(moves, present=None):
    """Holders of champion and challenger; by default the present champion is the log's last."""
    told = wanted_aliases(moves, NAME).get("champion")
    return before_last(moves, NAME, f"sha of {present}" if present else told)


def lines(moves):
    return [move.line for move in moves]


def test_lines_come_back_as_they_were_appended(tmp_path):
    for each in (FIRST, SECOND, move("--", "9-", name="other")):
        append(tmp_path / "log", each)
    assert lines(moves_of(tmp_path / "log", NAME)) == lines([FIRST, SECOND])
    assert [each.sha256 for each in read(tmp_path / "log")[:2]] == [FIRST.sha256, SECOND.sha256]
    assert read(tmp_path / "none") == []


def test_a_line_is_named_by_its_own_bytes_and_not_by_what_this_program_would_write(tmp_path):
    line = json.dumps(json.loads(FIRST.line), sort_keys=True, indent=None)  # other order, other spaces
    (tmp_path / "log").write_text(f"{line}\n")
    [found] = read(tmp_path / "log")
    assert found.sha256 == hashlib.sha256(line.encode()).hexdigest() != FIRST.sha256


def test_a_decision_of_metrics_that_are_no_more_is_read_as_it_was_written(tmp_path):
    decision = {"candidates": [{"checkpoint_sha256": "c", "evidence_sha256": "e", "conditions": [{"metric": "old/x"}]}]}
    append(tmp_path / "log", FIRST.model_copy(update={"decision": decision}))
    [found] = read(tmp_path / "log")
    assert found.decision == decision
    assert (found.evidence_judged("c"), found.evidence_judged("other")) == ("e", None)


@pytest.mark.parametrize("decision", [None, {}, {"candidates": 3}, {"candidates": ["c", {"checkpoint_sha256": "c"}]}])
def test_a_decision_that_names_no_evidence_tells_of_none(decision):
    assert FIRST.model_copy(update={"decision": decision}).evidence_judged("c") is None


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
        assert lines(read(log)) == [FIRST.line]
    assert "line 2 is broken and skipped" in caplog.text
    append(log, THIRD)
    assert log.read_bytes().startswith(cut + b"\n")
    assert lines(read(log)) == lines([FIRST, THIRD])


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


def test_the_giver_of_an_alias_is_the_newest_move_that_moved_that_alias_there():
    challenger_only = move("21", "23", alias="challenger")
    judged_anew = move("23", "23")
    log = [FIRST, SECOND, challenger_only]
    assert giver_of(log, "champion", "sha of 2") == SECOND
    assert giver_of(log, "challenger", "sha of 3") == challenger_only
    assert giver_of([*log, judged_anew], "champion", "sha of 2") == judged_anew
    assert giver_of(log, "champion", "sha of 3") is None


def test_going_back_twice_goes_back_two_promotions():
    log = [FIRST, SECOND, THIRD]
    assert gone_back_to(log) == THIRD.before
    log.append(move("32", "21", action="rollback"))
    assert gone_back_to(log) == SECOND.before
    log.append(move("21", "1-", action="rollback"))
    with pytest.raises(RefusalError, match="no earlier champion"):
        gone_back_to(log)


def test_after_going_back_a_promotion_starts_from_there():
    log = [FIRST, SECOND, move("21", "1-", action="rollback"), move("1-", "31")]
    assert champion(gone_back_to(log)) == "1"


def test_moves_of_the_challenger_alone_are_no_promotions_to_go_back_on():
    assert gone_back_to([FIRST, SECOND, move("21", "23", alias="challenger")]) == SECOND.before


def test_a_champion_set_by_hand_and_judged_afterwards_can_be_gone_back_on():
    assert champion(gone_back_to([FIRST, move("2-", "2-")])) == "1"


def test_from_a_champion_set_by_hand_it_goes_back_to_the_logs_last_and_then_on_as_ever():
    log = [FIRST, SECOND]
    assert gone_back_to(log, present="4") == SECOND.after
    log.append(move("4-", "21", action="rollback"))
    assert gone_back_to(log) == SECOND.before


def test_a_promotion_over_a_champion_set_by_hand_leads_back_over_all_of_them():
    log = [FIRST, SECOND, move("4-", "3-")]
    seen = []
    for here, back in (("3-", "4-"), ("4-", "21"), ("21", "1-")):
        seen.append(champion(gone_back_to(log)))
        log.append(move(here, back, action="rollback"))
    assert seen == ["4", "2", "1"]
    with pytest.raises(RefusalError, match="no earlier champion"):
        gone_back_to(log)


@pytest.mark.parametrize("log", [[], [FIRST], [move("--", "9-", name="other"), move("9-", "8-", name="other")]])
def test_without_an_earlier_champion_there_is_no_way_back(log):
    with pytest.raises(RefusalError, match=f"{NAME}: no earlier champion to go back to"):
        gone_back_to(log)
