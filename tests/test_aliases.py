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
    for alias, number in in_the_log(study).items():
        study.client.set_registered_model_alias(NAME, alias, number)
    assert study.check() == []


def holder(version):
    return Holder(version=str(version.version), checkpoint_sha256=version.tags["checkpoint_sha256"])


def a_move(after):
    return Move(
        model_name=NAME, dataset="busi", action="promote", alias=CHAMPION, before=dict.fromkeys(after), after=after,
        decision=None, by="tests", at="2026-01-01T00:00:00+00:00", why="",
    )  # fmt: skip


def in_the_log(study):
    """Alias -> the number that its version has now; one that was deleted comes back under a new one."""
    after = log.read(study.promotion_log)[-1].after
    found = {
        alias: registry.find_by_checkpoint(study.client, NAME, each.checkpoint_sha256) for alias, each in after.items()
    }
    return {alias: str(version.version) for alias, version in found.items()}


def aliases(study):
    return registry.aliases_of(study.client, NAME)


def test_a_lost_alias_is_told_and_set_again(study):
    wanted = in_the_log(study)
    study.client.delete_registered_model_alias(NAME, CHAMPION)
    assert [drift.problem for drift in study.check()] == [f"champion: on no version, on {wanted[CHAMPION]} by the log"]
    study.publish()
    assert aliases(study) == wanted


def test_the_champions_deleted_version_comes_back_as_champion_with_who_promoted_it(study):
    study.client.delete_model_version(NAME, in_the_log(study)[CHAMPION])
    assert "version: deleted" in [drift.problem for drift in study.check()]
    study.publish()
    assert aliases(study) == in_the_log(study)
    assert study.client.get_model_version_by_alias(NAME, CHAMPION).tags["promotion.by"] == "tests"


def test_an_alias_that_a_person_moved_is_told_and_left(study):
    wanted = in_the_log(study)
    study.client.delete_registered_model_alias(NAME, CHALLENGER)
    study.client.set_registered_model_alias(NAME, CHAMPION, wanted[CHALLENGER])
    [champion, _] = study.check()
    assert champion.problem == f"champion: moved by hand from version {wanted[CHAMPION]} to {wanted[CHALLENGER]}"
    assert f"flows.promote --dataset busi --version {wanted[CHALLENGER]}" in champion.repair
    study.publish()
    assert aliases(study)[CHAMPION] == wanted[CHALLENGER]


def test_without_the_files_of_an_earlier_champion_an_empty_store_says_so(study, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with caplog.at_level(logging.INFO):
        study.publish()
    assert aliases(study) == {CHAMPION: "1"}  # the one checkpoint whose files are here, under its new number
    assert "challenger: checkpoint" in caplog.text
    assert "check out the commit that made it" in caplog.text
