"""Aliases beside the promotion log: set again where they were lost, told where a person moved them."""

import logging

import pytest

from pipeline import registry
from pipeline.promotion import log
from pipeline.promotion.change import CHALLENGER, CHAMPION, Holder, Move
from tests.cells import give_checkpoint, published_study

pytestmark = pytest.mark.slow

NAME = "busi-classifier"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Versions of two checkpoints; the files hold the second, champion by the log, the first is challenger."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        give_checkpoint(study.data, "busi", "vit", seed=1)
        study.publish()
        one, two = (holder(version) for version in registry.versions_of(study.client, NAME))
        log.append(study.promotion_log, a_move({CHAMPION: two, CHALLENGER: one}))
        yield study


@pytest.fixture(autouse=True)
def as_in_the_log(study):
    """Each test finds the aliases as the log has them."""
    study.client.set_registered_model_alias(NAME, CHAMPION, "2")
    study.client.set_registered_model_alias(NAME, CHALLENGER, "1")
    assert study.check() == []


def holder(version):
    return Holder(version=str(version.version), checkpoint_sha256=version.tags["checkpoint_sha256"])


def a_move(after):
    return Move(
        model_name=NAME, dataset="busi", action="promote", alias=CHAMPION, before=dict.fromkeys(after), after=after,
        decision=None, by="tests", at="2026-01-01T00:00:00+00:00", why="",
    )  # fmt: skip


def aliases(study):
    return registry.aliases_of(study.client, NAME)


def test_a_lost_alias_is_told_and_set_again(study):
    study.client.delete_registered_model_alias(NAME, CHAMPION)
    assert [drift.problem for drift in study.check()] == ["champion: on no version, on 2 by the log"]
    study.publish()
    assert aliases(study) == {CHAMPION: "2", CHALLENGER: "1"}


def test_the_champions_deleted_version_comes_back_as_champion_with_who_promoted_it(study):
    study.client.delete_model_version(NAME, "2")
    assert "version: deleted" in [drift.problem for drift in study.check()]
    study.publish()
    champion = study.client.get_model_version_by_alias(NAME, CHAMPION)
    assert champion.tags["checkpoint_sha256"] == log.read(study.promotion_log)[-1].after[CHAMPION].checkpoint_sha256
    assert champion.tags["promotion.by"] == "tests"


def test_an_alias_that_a_person_moved_is_told_and_left(study):
    study.client.delete_registered_model_alias(NAME, CHALLENGER)
    study.client.set_registered_model_alias(NAME, CHAMPION, "1")
    [champion, _] = study.check()
    assert champion.problem == "champion: moved by hand from version 2 to 1"
    assert "flows.promote --dataset busi --version 1" in champion.repair
    study.publish()
    assert aliases(study)[CHAMPION] == "1"


def test_without_the_files_of_an_earlier_champion_an_empty_store_says_so(study, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with caplog.at_level(logging.INFO):
        study.publish()
    assert aliases(study) == {CHAMPION: "1"}  # the one checkpoint whose files are here, under its new number
    assert "challenger: checkpoint" in caplog.text
    assert "check out the commit that made it" in caplog.text
