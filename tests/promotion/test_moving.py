"""Aliases are moved with their traces; cut off anywhere, the next move finishes; two at once leave one champion."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipeline import registry, tracking
from pipeline.errors import RefusalError, StudyError
from pipeline.promotion.change import CHAMPION
from pipeline.promotion.log import append, locked, moves_of, read
from pipeline.promotion.moving import earlier_aliases, finish_last_move, make_move
from pipeline.promotion.state import FINISHED, state_of
from tests.promotion.store import NAME, clear, damaged_weights, move_to, promoting, registry_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Version 5 is there to be deleted, version 6 to lose its logged model."""
    with registry_of(tmp_path_factory.mktemp("store"), versions=6) as client:
        yield client


@pytest.fixture
def client(store):
    clear(store)
    return store


@pytest.fixture
def log(tmp_path):
    return tmp_path / "promotions.jsonl"


def aliases(client):
    return registry.aliases_of(client, NAME)


def tags(client, version):
    return client.get_model_version(NAME, version).tags


def earlier(client, log):
    return earlier_aliases(client, state_of(client, NAME), moves_of(log, NAME))


def audit_runs(client):
    return client.search_runs([tracking.experiment_id(client, "promotion")])


def test_a_move_sets_aliases_tags_and_a_line_that_agree(client, log):
    make_move(log, move_to(client, "2", "3"))
    move = move_to(client, "3", "2", why="better maps")
    make_move(log, move)
    assert aliases(client) == {"champion": "3", "challenger": "2"}
    assert read(log)[-1].line == move.line
    told = {name.removeprefix("promotion."): value for name, value in tags(client, "3").items()}
    assert told == {
        "alias": "champion", "action": "promote", "from": "2", "to": "3", "by": "Ada", "why": "better maps",
        "at": "2026-01-01T00:00:00+00:00", "log_sha256": move.sha256,
    }  # fmt: skip
    assert tags(client, "2")["promotion.alias"] == "challenger"


def test_a_version_that_loses_its_alias_is_told_so(client, log):
    make_move(log, move_to(client, "2", None))
    make_move(log, move_to(client, "3", None))
    assert tags(client, "2")["promotion.alias"] == "none"


def test_a_version_that_keeps_its_alias_keeps_what_its_tags_tell_of_it(client, log):
    make_move(log, move_to(client, "2", "3", why="champion's own"))
    make_move(log, move_to(client, "2", "4", why="another challenger"))
    assert tags(client, "2")["promotion.why"] == "champion's own"
    assert (tags(client, "3")["promotion.alias"], tags(client, "4")["promotion.alias"]) == ("none", "challenger")
    assert (tags(client, "4")["promotion.from"], tags(client, "4")["promotion.to"]) == ("3", "4")


def test_the_audit_run_holds_the_decision_and_the_model(client, log):
    make_move(log, move_to(client, "1", None))
    move = move_to(client, "4", None, why="audited")
    make_move(log, move)
    run = next(run for run in audit_runs(client) if run.data.tags.get("promotion.log_sha256") == move.sha256)
    assert (run.info.run_name, run.info.status) == ("busi champion 1 -> 4", "FINISHED")
    assert run.data.tags["mlflow.note.content"].startswith("# busi champion 1 -> 4")
    linked = client.get_run(run.info.run_id).inputs.model_inputs[0].model_id
    assert f"models:/{linked}" == client.get_model_version(NAME, "4").source
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert json.loads((folder / "decision.json").read_text()) == json.loads(move.line)
    assert "audited" in (folder / "decision.md").read_text()


def test_a_move_decided_on_other_aliases_is_refused_and_leaves_nothing(client, log):
    stale = move_to(client, "2", None)
    make_move(log, move_to(client, "3", None))
    with pytest.raises(RefusalError, match="its aliases were moved meanwhile"):
        make_move(log, stale)
    assert aliases(client) == {"champion": "3"}
    assert len(read(log)) == 1


def test_a_move_cut_off_after_its_line_is_finished_by_the_next_command(client, log):
    make_move(log, move_to(client, "2", "3"))
    move = move_to(client, "3", "2")
    append(log, move)
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "3", "challenger": "2"}
    assert tags(client, "3")["promotion.log_sha256"] == move.sha256


def test_a_move_cut_off_between_its_aliases_is_finished_too(client, log):
    make_move(log, move_to(client, "2", "3"))
    append(log, move_to(client, "3", "2"))
    client.delete_registered_model_alias(NAME, "challenger")
    client.set_registered_model_alias(NAME, "champion", "3")
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "3", "challenger": "2"}


def test_finishing_what_is_finished_changes_nothing(client, log):
    make_move(log, move_to(client, "2", "3"))
    before = (len(audit_runs(client)), aliases(client), log.read_bytes())
    client.delete_registered_model_tag(NAME, FINISHED)
    finish_last_move(log, "busi")
    finish_last_move(log, "busi")
    assert (len(audit_runs(client)), aliases(client), log.read_bytes()) == before


def test_an_alias_moved_by_hand_is_not_taken_for_a_move_that_was_cut_off(client, log):
    make_move(log, move_to(client, "2", "3"))
    client.set_registered_model_alias(NAME, "champion", "4")
    finish_last_move(log, "busi")
    assert aliases(client)["champion"] == "4"


def test_an_alias_whose_version_is_gone_is_left_as_it_is(client, log):
    client.set_registered_model_alias(NAME, "champion", "1")
    gone = move_to(client, "2", None)
    holder = gone.after["champion"].model_copy(update={"checkpoint_sha256": "gone"})
    append(log, gone.model_copy(update={"after": {**gone.after, "champion": holder}}))
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "1"}


def test_going_back_finds_versions_by_their_checkpoints(client, log):
    make_move(log, move_to(client, "2", "3"))
    make_move(log, move_to(client, "3", "2"))
    assert earlier(client, log) == {"champion": "2", "challenger": "3"}
    line = log.read_text().replace('"version":"2"', '"version":"77"')  # as numbered in a store before this one
    log.write_text(line)
    assert earlier(client, log)["champion"] == "2"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (Path.unlink, "its weights are gone"),
        (lambda file: file.write_text("other"), "belong to another checkpoint than its weights"),
    ],
)
def test_going_back_to_a_version_without_its_weights_is_refused(client, log, damage, words):
    make_move(log, move_to(client, "2", None))
    make_move(log, move_to(client, "3", None))
    refusal = pytest.raises(RefusalError, match=f"version 2, which had the alias before: .*{words}")
    with damaged_weights(client, "2", damage), refusal:
        earlier(client, log)


def test_a_challenger_without_its_weights_does_not_keep_the_champion_from_going_back(client, log):
    make_move(log, move_to(client, "2", "4"))
    make_move(log, move_to(client, "3", None))
    with damaged_weights(client, "4"):
        assert earlier(client, log) == {"champion": "2", "challenger": None}


@pytest.mark.parametrize("gone", ["3", "4"])
def test_a_move_to_a_version_whose_weights_went_since_the_decision_is_refused_and_leaves_nothing(client, log, gone):
    make_move(log, move_to(client, "1", "2"))
    before = (log.read_bytes(), aliases(client))
    move = move_to(client, "3", "4")
    refusal = pytest.raises(RefusalError, match=f"version {gone}: its weights are gone; .*; nothing was moved")
    with damaged_weights(client, gone), refusal:
        make_move(log, move)
    assert (log.read_bytes(), aliases(client)) == before


def test_a_move_to_a_version_that_was_deleted_since_the_decision_is_refused_and_leaves_nothing(client, log):
    make_move(log, move_to(client, "1", None))
    move = move_to(client, "5", "1")
    client.delete_model_version(NAME, "5")
    with pytest.raises(RefusalError, match="version 5 was deleted meanwhile; nothing was moved"):
        make_move(log, move)
    assert aliases(client) == {"champion": "1"}
    assert len(read(log)) == 1


def test_the_checkpoint_of_a_version_without_its_logged_model_is_that_of_its_tag(client):
    client.delete_logged_model(client.get_model_version(NAME, "6").source.rpartition("/")[2])
    with pytest.raises(RefusalError, match="version 6 has lost its logged model and the tag checkpoint_sha256"):
        move_to(client, "6", None)
    client.set_model_version_tag(NAME, "6", registry.CHECKPOINT, "as tagged")
    assert move_to(client, "6", None).after["champion"].checkpoint_sha256 == "as tagged"


def test_a_store_that_was_promoted_from_another_log_is_left_and_a_promotion_refused(client, tmp_path):
    alice, bob = tmp_path / "alice.jsonl", tmp_path / "bob.jsonl"
    make_move(alice, move_to(client, "1", None))
    make_move(alice, move_to(client, "2", None))
    bob.write_bytes(alice.read_bytes())
    make_move(alice, move_to(client, "3", None))
    finish_last_move(bob, "busi")
    assert aliases(client) == {"champion": "3"}
    with pytest.raises(StudyError, match="promoted from another log, which has lines"):
        make_move(bob, move_to(client, "4", None))
    assert aliases(client) == {"champion": "3"}
    bob.write_bytes(alice.read_bytes())  # as git pull leaves it
    make_move(bob, move_to(client, "4", None))
    assert aliases(client) == {"champion": "4"}


def test_an_older_log_as_an_old_commit_has_it_moves_nothing(client, log):
    make_move(log, move_to(client, "1", None))
    old = log.read_bytes()
    make_move(log, move_to(client, "2", None))
    make_move(log, move_to(client, "3", None))
    log.write_bytes(old)
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "3"}


def test_an_older_line_that_git_left_last_is_no_move_that_was_cut_off(client, log):
    """The last alias move, a rollback, stands before the promotion that it took back."""
    make_move(log, move_to(client, "1", None))
    make_move(log, move_to(client, "2", None))
    back = move_to(client, "1", None, action="rollback").model_copy(update={"at": "2026-01-02T00:00:00+00:00"})
    make_move(log, back)
    first, promotion, rollback = log.read_text().splitlines(keepends=True)
    log.write_text(first + rollback + promotion)
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "1"}


def test_a_colleagues_promotion_that_came_with_git_is_carried_out_in_a_store_of_ones_own(client, log):
    make_move(log, move_to(client, "1", None))
    append(log, move_to(client, "2", None))
    finish_last_move(log, "busi")
    assert aliases(client) == {"champion": "2"}


def test_at_no_moment_a_version_is_both_or_the_champion_absent(client):
    """Every state that the aliases pass through, as the registry's calls leave it."""
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_alias(NAME, "challenger", "3")
    seen = []

    class Watched(tracking.MlflowClient):
        def set_registered_model_alias(self, *given):
            client.set_registered_model_alias(*given)
            seen.append(aliases(client))

        def delete_registered_model_alias(self, *given):
            client.delete_registered_model_alias(*given)
            seen.append(aliases(client))

    registry.move_aliases(
        Watched(tracking_uri=tracking.tracking_uri()), NAME, {"champion": "3", "challenger": "2"}, CHAMPION
    )
    assert seen[-1] == {"champion": "3", "challenger": "2"}
    assert all("champion" in state and len(set(state.values())) == len(state) for state in seen)


def test_of_two_processes_that_promote_at_once_one_wins_and_the_log_agrees(client, log):
    make_move(log, move_to(client, "1", "2"))
    with locked(log), ExitStack() as waiting:
        rivals = {name: waiting.enter_context(promoting(log, name, "1")) for name in ("3", "4")}
        assert [rival.poll() for rival in rivals.values()] == [None, None]
        unlocked = waiting.pop_all()
    with unlocked:
        codes = {name: (rival.communicate(timeout=60), rival.returncode)[1] for name, rival in rivals.items()}
    assert sorted(codes.values()) == [0, RefusalError.exit_code]
    champion = next(name for name, code in codes.items() if code == 0)
    assert aliases(client) == {"champion": champion, "challenger": "1"}
    assert [move.after["champion"].version for move in read(log)] == ["1", champion]
