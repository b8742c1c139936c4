"""Registered models beside the promotion log: what was lost or edited is set again, what a person moved is left."""

import logging

import pytest

from pipeline import registry, runs, tracking
from pipeline.promotion.audit import EXPERIMENT
from pipeline.promotion.change import CHALLENGER, CHAMPION, Move
from pipeline.promotion.log import append, read
from pipeline.promotion.moving import make_move
from pipeline.promotion.state import FINISHED, state_of
from pipeline.publishing.aliases import restorable
from pipeline.records import Trust
from tests.cells import change_record, give_checkpoint, published_study

pytestmark = pytest.mark.slow

NAME = "busi-classifier"
IN_THE_LOG = {CHAMPION: "2", CHALLENGER: "1"}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Versions of two checkpoints; the files hold the second."""
    with published_study(tmp_path_factory.mktemp("checkout")) as study:
        give_checkpoint(study.data, "busi", "vit", seed=1)
        study.publish()
        yield study


@pytest.fixture
def study(published):
    """Version 2 is champion by the log, version 1 challenger."""
    for alias in registry.aliases_of(published.client, NAME):
        published.client.delete_registered_model_alias(NAME, alias)
    if FINISHED in registry.model_tags(published.client, NAME):
        published.client.delete_registered_model_tag(NAME, FINISHED)
    published.promotion_log.unlink(missing_ok=True)
    make_move(published.promotion_log, a_move(published, IN_THE_LOG))
    assert published.check() == []
    return published


def a_move(study, after, alias=CHAMPION, by="Ada"):
    """From the aliases as they are, judged on the scores as they are."""
    state = state_of(study.client, NAME)
    known = state.versions.items()
    judged = [
        {"checkpoint_sha256": each, "evidence_sha256": version.tags[runs.CONTENT_HASH]} for each, version in known
    ]
    return Move(
        model_name=NAME, dataset="busi", action="promote", alias=alias,
        before=state.holders(state.numbers(*after)), after=state.holders(after),
        decision={"candidates": judged}, by=by, at="2026-01-01T00:00:00+00:00", why="",
    )  # fmt: skip


def aliases(study):
    return registry.aliases_of(study.client, NAME)


def problems(study):
    return [drift.problem for drift in study.check()]


def tags(study, alias):
    return study.client.get_model_version_by_alias(NAME, alias).tags


def audit_run(study):
    [found] = study.client.search_runs([tracking.experiment_id(study.client, EXPERIMENT)], max_results=1)
    return found.info


def test_a_lost_alias_is_told_and_set_again(study):
    study.client.delete_registered_model_alias(NAME, CHAMPION)
    assert problems(study) == ["champion: on no version, on 2 by the log"]
    study.publish()
    assert aliases(study) == IN_THE_LOG


def test_an_alias_that_a_person_moved_is_told_and_left(study):
    study.client.delete_registered_model_alias(NAME, CHALLENGER)
    study.client.set_registered_model_alias(NAME, CHAMPION, "1")
    champion, challenger = study.check()
    assert champion.problem == "champion: on version 1, on 2 by the log"
    assert "flows.promote --dataset busi --version 1" in champion.repair
    assert challenger.problem == "challenger: on no version, on 1 by the log"
    assert challenger.repair.startswith("left off: version 1 is champion; ")
    study.publish()
    assert aliases(study) == {CHAMPION: "1"}


@pytest.mark.parametrize(
    ("wanted", "present", "found"),
    [
        ({CHAMPION: "2", CHALLENGER: "1", "shadow": "2"}, {}, {CHAMPION: "2", CHALLENGER: "1", "shadow": "2"}),
        ({CHAMPION: "2", CHALLENGER: "1"}, {CHAMPION: "1"}, {}),
        ({CHAMPION: "2", CHALLENGER: "1"}, {CHALLENGER: "2"}, {}),
        ({CHAMPION: "2", CHALLENGER: "1"}, {CHALLENGER: "3"}, {CHAMPION: "2"}),
        ({CHAMPION: "2", CHALLENGER: "2"}, {}, {CHAMPION: "2"}),
    ],
)
def test_no_version_becomes_champion_and_challenger(wanted, present, found):
    assert restorable(wanted, present) == found


def test_tags_of_a_promotion_that_were_edited_are_told_and_set_back(study):
    study.client.set_model_version_tag(NAME, "2", "promotion.by", "Mallory")
    study.client.delete_model_version_tag(NAME, "1", "promotion.at")
    assert sorted(problems(study)) == ["version 1: tags edited: promotion.at", "version 2: tags edited: promotion.by"]
    study.publish()
    assert tags(study, CHAMPION)["promotion.by"] == "Ada"
    assert study.check() == []


def test_a_deleted_run_of_the_last_promotion_is_told_and_written_again(study):
    study.client.delete_run(audit_run(study).run_id)
    assert problems(study) == ["run: not in MLflow"]
    study.publish()
    assert study.check() == []


def test_an_altered_decision_is_told_and_written_anew(study):
    run = audit_run(study)
    with tracking.local_copy(study.client, run.artifact_uri) as folder:
        (folder / "decision.json").write_text("{}")
    assert problems(study) == ["run: files missing or altered: decision.json"]
    study.publish()
    assert study.check() == []
    assert audit_run(study).run_id != run.run_id


def test_a_store_that_was_promoted_from_another_log_is_told_and_left(study):
    """Another clone has promoted since, or this is an older commit."""
    older = study.promotion_log.read_bytes()
    make_move(study.promotion_log, a_move(study, {CHAMPION: "1", CHALLENGER: "2"}))
    study.promotion_log.write_bytes(older)
    [drift] = study.check()
    assert str(drift).startswith(f"{NAME}: promoted from another log; its aliases are left; `git pull`")
    study.client.delete_registered_model_alias(NAME, CHALLENGER)
    study.publish()
    assert aliases(study) == {CHAMPION: "1"}


def test_a_promotion_that_was_cut_off_is_told_and_carried_out(study):
    append(study.promotion_log, a_move(study, {CHAMPION: "1", CHALLENGER: "2"}))
    told = study.check()[0]
    assert told.problem.startswith("busi champion 2 -> 1 of 2026-01-01T00:00:00+00:00: in the log, but not carried out")
    assert told.repair == "carried out"
    study.publish()
    assert aliases(study) == {CHAMPION: "1", CHALLENGER: "2"}
    assert study.check() == []


def test_a_line_of_the_log_that_cannot_be_carried_out_here_is_told_and_left(study):
    append(study.promotion_log, a_move(study, {CHAMPION: "1", CHALLENGER: None}))
    append(study.promotion_log, a_move(study, {CHAMPION: "1", CHALLENGER: None}, by="Bob"))
    told = study.check()[0]
    assert told.repair == "left; `python -m flows.promote --dataset busi` decides anew"
    study.publish()
    assert aliases(study) == IN_THE_LOG


def test_a_champion_whose_scores_were_made_anew_is_told_until_it_is_judged_again(study):
    scored = study.data / "scores/busi/vit"
    change_record(scored, Trust, images=Trust.read(scored).images + 1)
    study.publish()
    assert problems(study) == ["champion: judged on other scores than it has now"]
    make_move(study.promotion_log, a_move(study, IN_THE_LOG, by="Grace"))
    assert study.check() == []
    assert tags(study, CHAMPION)["promotion.by"] == "Grace"


def test_in_a_store_made_again_each_alias_tells_of_its_own_promotion(study, tmp_path, monkeypatch, caplog):
    make_move(study.promotion_log, a_move(study, {**IN_THE_LOG, "shadow": "2"}, alias="shadow", by="Sam"))
    make_move(study.promotion_log, a_move(study, {**IN_THE_LOG, "eve": "1"}, alias="eve", by="Eve"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with caplog.at_level(logging.INFO):
        study.publish()
    assert aliases(study) == {CHAMPION: "1", "shadow": "1"}  # the one checkpoint whose files are here
    told = tags(study, CHAMPION)
    names = ("alias", "by", "from", "to", "log_sha256")
    first = read(study.promotion_log)[0]
    assert [told[f"promotion.{name}"] for name in names] == [CHAMPION, "Ada", "none", "2", first.sha256]
    assert "challenger: checkpoint" in caplog.text
    assert "check out the commit that made it" in caplog.text


def test_the_champions_deleted_version_comes_back_as_champion_with_who_promoted_it(study):
    """The last test: under a number of its own."""
    study.client.delete_model_version(NAME, "2")
    assert "version: deleted" in problems(study)
    study.publish()
    assert aliases(study) == {CHAMPION: "3", CHALLENGER: "1"}
    assert tags(study, CHAMPION)["promotion.by"] == "Ada"
