"""Aliases are moved with their traces; cut off anywhere, the next move finishes; two at once leave one champion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import registry, tracking
from pipeline.errors import RefusalError
from pipeline.promotion.log import append, read
from pipeline.promotion.moving import FINISHED, earlier_aliases, finish_last_move, make_move
from pipeline.promotion.planning import CHAMPION
from tests.promotion.store import NAME, clear, move_to, registry_of, weights_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with registry_of(tmp_path_factory.mktemp("store"), versions=4) as client:
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


def audit_runs(client):
    return client.search_runs([tracking.experiment_id(client, "promotion")])


def test_a_move_sets_aliases_tags_and_a_line_that_agree(client, log):
    make_move(log, move_to(client, "2", "3"))
    move = move_to(client, "3", "2", why="better maps")
    make_move(log, move)
    assert aliases(client) == {"champion": "3", "challenger": "2"}
    assert read(log)[-1] == move
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
    assert earlier_aliases(client, log, NAME) == {"champion": "2", "challenger": "3"}
    line = log.read_text().replace('"version":"2"', '"version":"77"')  # as numbered in a store before this one
    log.write_text(line)
    assert earlier_aliases(client, log, NAME)["champion"] == "2"


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("other")])
def test_going_back_to_a_version_without_its_weights_is_refused(client, log, damage):
    make_move(log, move_to(client, "2", None))
    make_move(log, move_to(client, "3", None))
    weights = weights_of(client, "2")
    kept = weights.read_bytes()
    damage(weights)
    with pytest.raises(RefusalError, match="the weights of version 2, the earlier champion, are gone or altered"):
        earlier_aliases(client, log, NAME)
    weights.write_bytes(kept)


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


PROMOTING = """
import sys
from pathlib import Path
from pipeline import tracking
from pipeline.errors import RefusalError
from pipeline.promotion.moving import make_move
from tests.promotion.store import move_to

move = move_to(tracking.open_store(), *sys.argv[2:4], why=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
try:
    make_move(Path(sys.argv[1]), move)
except RefusalError as refusal:
    sys.exit(refusal.exit_code)
"""


def test_of_two_processes_that_promote_at_once_one_wins_and_the_log_agrees(client, log):
    make_move(log, move_to(client, "1", "2"))
    ours = move_to(client, "3", "1")
    command = [sys.executable, "-c", PROMOTING, str(log), "2", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rival:
        assert rival.stdout.readline() == "ready\n"
        rival.stdin.write("go\n")
        rival.stdin.flush()
        try:
            make_move(log, ours)
            lost = False
        except RefusalError:
            lost = True
    assert rival.returncode == (0 if lost else 3)
    champion = "2" if lost else "3"
    assert aliases(client) == {"champion": champion, "challenger": "1"}
    assert [move.after["champion"].version for move in read(log)] == ["1", champion]
