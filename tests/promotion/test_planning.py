"""Who gets which alias: best and next, one that was asked for, never two on one version, and every refusal."""

import pytest

from pipeline.errors import RefusalError, StudyError
from pipeline.params import Condition
from pipeline.promotion.decision import Candidate, Decision, Judged, LeftOut
from pipeline.promotion.measurement import NOTHING
from pipeline.promotion.planning import Request, planned

CONDITION = Condition(metric="test/accuracy", at_least=0.5)


def candidate(version, passed):
    why_not = "" if passed else "test/accuracy: 0.400 is below 0.5"
    judged = Judged(condition=CONDITION, measured=NOTHING, passed=passed, why_not=why_not)
    return Candidate(
        version=version, model="vit", checkpoint_sha256=version, evidence_sha256="e", split_sha256="s",
        conditions=(judged,), ranking={},
    )  # fmt: skip


def plan(passing, aliases=None, failing="", left_out="", alias="champion", version=None):
    """`passing` best first, a version a letter."""
    decision = Decision(
        dataset="busi",
        model_name="busi-classifier",
        min_images=1,
        candidates=tuple(candidate(each, each in passing) for each in passing + failing),
        left_out=tuple(LeftOut(version=each, model="vit", reason="its weights are gone") for each in left_out),
    )
    before = {"champion": None, "challenger": None, alias: None} | (aliases or {})
    return planned(decision, before, Request(alias, version))


@pytest.mark.parametrize(
    ("passing", "aliases", "after"),
    [
        ("321", {}, {"champion": "3", "challenger": "2"}),
        ("3", {}, {"champion": "3", "challenger": None}),
        ("321", {"champion": "2", "challenger": "3"}, {"champion": "3", "challenger": "2"}),
        ("23", {"champion": "2", "challenger": "3"}, {"champion": "2", "challenger": "3"}),
        ("3", {"champion": "3", "challenger": "2"}, {"champion": "3", "challenger": None}),
    ],
)
def test_the_best_that_passes_is_champion_and_the_next_challenger(passing, aliases, after):
    assert plan(passing, aliases) == after


@pytest.mark.parametrize(
    ("aliases", "after"),
    [
        ({"champion": "3", "challenger": "2"}, {"champion": "1", "challenger": "2"}),
        ({"champion": "3", "challenger": "1"}, {"champion": "1", "challenger": "3"}),
        ({"champion": "4", "challenger": "1"}, {"champion": "1", "challenger": None}),  # 4 fails
        ({"champion": "1", "challenger": "2"}, {"champion": "1", "challenger": "2"}),
        ({"champion": "1", "challenger": "1"}, {"champion": "1", "challenger": None}),  # set so by hand
        ({}, {"champion": "1", "challenger": None}),
    ],
)
def test_beside_a_version_asked_for_the_challenger_stays_unless_it_is_the_new_champion(aliases, after):
    assert plan("321", aliases, failing="4", version="1") == after


def test_the_challenger_is_the_best_that_is_not_champion():
    after = plan("321", {"champion": "3"}, alias="challenger")
    assert after == {"champion": "3", "challenger": "2"}


def test_an_alias_of_ones_own_leaves_the_others():
    after = plan("32", {"champion": "2"}, alias="shadow", version="3")
    assert after == {"champion": "2", "challenger": None, "shadow": "3"}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            {"passing": "", "failing": "1"},
            "no version passes for champion; version 1 fails test/accuracy: 0.400 is below",
        ),
        ({"passing": "", "left_out": "1"}, "version 1 cannot be judged: its weights are gone"),
        ({"passing": ""}, "it has no versions; run `dvc repro publish`"),
        ({"passing": "2", "failing": "1", "version": "1"}, "version 1 fails test/accuracy: 0.400 is below 0.5"),
        ({"passing": "2", "left_out": "1", "version": "1"}, "version 1 cannot be judged: its weights are gone"),
        (
            {"passing": "2", "version": "2", "alias": "challenger", "aliases": {"champion": "2"}},
            "version 2 is champion, it cannot be challenger too",
        ),
        (
            {"passing": "2", "alias": "challenger", "aliases": {"champion": "2"}},
            "no version passes for challenger; version 2 is champion",
        ),
    ],
)
def test_a_refusal_says_why(asked, words):
    with pytest.raises(RefusalError, match=words) as refused:
        plan(**asked)
    assert refused.value.exit_code == 3


def test_a_version_that_is_not_there_is_the_users_fault():
    with pytest.raises(StudyError, match="no version 9; it has 1, 2") as refused:
        plan("2", failing="1", version="9")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("alias", ["v1", "V12", "latest", "Latest", "a b", "", "1st", "a/b", "é"])
def test_an_alias_that_mlflow_would_not_take_is_refused(alias):
    with pytest.raises(StudyError, match="use letters"):
        Request(alias)
