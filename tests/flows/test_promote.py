"""The command `python -m flows.promote`: what it moves, what it refuses, and with which exit code."""

import json
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.states import Cancelling

from flows import servers
from flows.command import run_main
from flows.monitor import monitor
from flows.promote import command, refuse_unapproved
from pipeline import registry
from pipeline.errors import RefusalError
from pipeline.promotion.change import Approval
from pipeline.promotion.log import read
from pipeline.promotion.state import FINISHED
from tests.flows.promotable import (
    BOUND,
    NAME,
    ROOT,
    answer,
    forget_promotions,
    give_policy,
    promotable_study,
    question_to_a_human,
    started,
    wait_for,
)
from tests.ports import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    with promotable_study(tmp_path_factory.mktemp("checkout")) as study:
        yield study


@pytest.fixture
def study(published, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.chdir(published.folder)
    monkeypatch.setattr(monitor, "_on", None)
    give_policy(published.folder, BOUND)
    forget_promotions(published)
    return published


@pytest.fixture
def promote(study, monkeypatch, capsys):
    """Runs the command; its exit code, stdout and stderr come back."""

    def run(*options):
        monkeypatch.setattr("sys.argv", ["promote", "--dataset", "busi", "--by", "Ada", *options])
        try:
            run_main(command)
            code = 0
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def aliases(study):
    return registry.aliases_of(study.client, NAME)


def test_the_best_that_pass_become_champion_and_challenger(study, promote):
    code, table, _ = promote("--why", "first")
    assert code == 0
    assert aliases(study) == {"champion": "2", "challenger": "1"}
    move = read(study.promotion_log)[-1]
    assert (move.by, move.why, move.action, move.before["champion"]) == ("Ada", "first", "promote", None)
    assert [each["version"] for each in move.decision["candidates"]] == ["2", "1", "3"]
    assert "| 3       | vit   | test/accuracy | 0.000 [0.000, 0.242] | ≥ 0.5 | 12     | fail    |" in table
    assert "- champion: none -> 2" in table


def test_promoting_what_is_champion_already_changes_nothing(study, promote):
    promote()
    log = study.promotion_log.read_bytes()
    code, table, _ = promote()
    assert (code, study.promotion_log.read_bytes()) == (0, log)
    assert "- champion: 2 (unchanged)" in table


def test_a_dry_run_changes_nothing(study, promote):
    code, table, _ = promote("--dry-run")
    assert (code, aliases(study), study.promotion_log.exists()) == (0, {}, False)
    assert "- champion: none -> 2" in table


def test_going_back_judges_nothing_and_twice_goes_back_twice(study, promote):
    promote()
    promote("--version", "1")
    assert aliases(study) == {"champion": "1", "challenger": "2"}
    give_policy(study.folder, {"metric": "test/accuracy", "at_least": 1})
    assert promote("--rollback")[0] == 0
    assert aliases(study) == {"champion": "2", "challenger": "1"}
    assert read(study.promotion_log)[-1].decision is None
    code, _, error = promote("--rollback")
    assert code == 3
    assert error.endswith(f"error: {NAME}: no earlier champion to go back to; the promotion log tells of none\n")
    assert aliases(study) == {"champion": "2", "challenger": "1"}


def test_a_version_that_fails_is_refused_with_the_reason(study, promote):
    code, table, error = promote("--version", "3")
    assert (code, aliases(study)) == (3, {})
    assert error.endswith(f"error: {NAME}: version 3 fails test/accuracy: 0.000 is below 0.5\n")
    assert "Refused: " in table


def test_where_none_passes_nothing_is_moved(study, promote):
    give_policy(study.folder, {"metric": "test/accuracy", "at_least": 1})
    code, _, error = promote()
    assert (code, aliases(study), study.promotion_log.exists()) == (3, {}, False)
    assert "version 2 fails test/accuracy: 0.750 is below 1 | version 1 fails" in error


def test_a_version_whose_weights_are_anothers_is_not_judged(study, promote):
    model = registry.logged_model_of(study.client, study.client.get_model_version(NAME, "2"))
    weights = Path(model.artifact_location.removeprefix("file://")) / "artifacts/model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept + b"!")
    try:
        code, table, error = promote("--version", "2")
        assert code == 3
        assert "version 2 cannot be judged: its heatmaps and scores belong to another checkpoint" in error
        assert "### Not judged" in table
        assert promote("--json")[0] == 0
        assert aliases(study) == {"champion": "1"}
    finally:
        weights.write_bytes(kept)


def test_json_is_all_that_stands_on_stdout(study, promote):
    code, text, _ = promote("--json")
    proposal = json.loads(text)
    assert (code, proposal["after"]["champion"]["version"], proposal["refusal"]) == (0, "2", "")
    code, text, _ = promote("--json", "--version", "3")
    assert (code, json.loads(text)["refusal"]) == (3, f"{NAME}: version 3 fails test/accuracy: 0.000 is below 0.5")


def test_another_alias_leaves_champion_and_challenger(study, promote):
    promote()
    assert promote("--alias", "shadow", "--version", "1")[0] == 0
    assert aliases(study) == {"champion": "2", "challenger": "1", "shadow": "1"}


def test_a_champion_set_by_hand_is_judged_and_written_into_the_log(study, promote):
    promote()
    study.client.delete_registered_model_alias(NAME, "challenger")
    study.client.set_registered_model_alias(NAME, "champion", "1")
    assert promote("--version", "1")[0] == 0
    assert read(study.promotion_log)[-1].after["champion"].version == "1"
    assert promote("--rollback")[0] == 0
    assert aliases(study) == {"champion": "2", "challenger": "1"}


def test_from_a_champion_set_by_hand_it_goes_back_to_the_one_that_was_promoted(study, promote):
    promote()
    study.client.set_registered_model_alias(NAME, "champion", "3")
    assert promote("--rollback")[0] == 0
    assert aliases(study) == {"champion": "2", "challenger": "1"}


def test_a_store_that_was_promoted_from_another_log_is_not_promoted_with_this_one(study, promote):
    promote()
    older = study.promotion_log.read_bytes()
    promote("--version", "1")
    study.promotion_log.write_bytes(older)
    for options in ([], ["--dry-run"], ["--rollback"]):
        code, _, error = promote(*options)
        assert (code, aliases(study)) == (2, {"champion": "1", "challenger": "2"})
        assert f"{NAME}: promoted from another log, which has lines that this one has not; `git pull`" in error


def test_a_champion_that_was_judged_on_other_scores_is_judged_anew(study, promote):
    promote("--why", "first")
    line = study.promotion_log.read_text()
    judged = json.loads(line)["decision"]["candidates"][0]["evidence_sha256"]
    assert judged == study.client.get_model_version(NAME, "2").tags["content_hash"]
    study.promotion_log.write_text(line.replace(judged, "0" * 64))
    study.client.set_registered_model_tag(NAME, FINISHED, read(study.promotion_log)[0].sha256)
    assert promote("--why", "scored anew")[0] == 0
    assert [move.why for move in read(study.promotion_log)] == ["first", "scored anew"]
    assert study.client.get_model_version(NAME, "2").tags["promotion.why"] == "scored anew"
    assert promote("--why", "once more")[0] == 0
    assert len(read(study.promotion_log)) == 2


def test_a_promotion_cut_off_after_its_line_is_finished_by_the_next(study, promote):
    promote()
    line = study.promotion_log.read_bytes()
    forget_promotions(study)
    study.promotion_log.write_bytes(line)
    assert promote()[0] == 0
    assert aliases(study) == {"champion": "2", "challenger": "1"}
    assert study.promotion_log.read_bytes() == line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--version", "9"], f"{NAME}: no version 9; it has 1, 2, 3"),
        (["--alias", "v2"], "alias 'v2': use letters, digits, - and _"),
        (["--rollback", "--version", "1"], "--rollback: moves champion and challenger back together"),
        (["--approve"], "an approval is given in the Prefect UI, and no server is up; start one with `make ui`"),
    ],
)
def test_what_the_user_has_to_mend_ends_with_code_2(study, promote, options, words):
    code, _, error = promote(*options)
    assert (code, aliases(study)) == (2, {})
    assert words in error.splitlines()[-1]


@pytest.fixture(scope="module")
def prefect(published):
    """The API address of a Prefect server of its own, for which the deployments are served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(published.folder)
        for name in ("flows", "prefect.yaml"):
            (published.folder / name).symlink_to(ROOT / name)
        server = servers.SERVERS["prefect"]
        servers.start(server, free_port())
        api = servers.address_of("prefect")
        with started(published, api, "flows.deployments"):
            yield api
        servers.stop(server)


@pytest.mark.parametrize(
    ("approval", "words"),
    [
        (Approval(), "busi champion 1 -> 2: rejected by nobody named; nothing was moved"),
        (Approval(approve=True, by=" "), "busi champion 1 -> 2: approved without a name; nothing was moved"),
    ],
)
def test_an_answer_without_a_yes_or_a_name_is_none(approval, words):
    with pytest.raises(RefusalError, match=words):
        refuse_unapproved("busi champion 1 -> 2", approval)


def test_rejected_by_a_human_nothing_moves(study, prefect):
    client = SyncPrefectClient(prefect)
    with started(study, prefect, "flows.promote", "--dataset", "busi", "--approve") as process:
        run, _ = wait_for(lambda: question_to_a_human(client))
        answer(client, run, approve=False, by="Grace", why="not yet")
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert "error: busi champion none -> 2: rejected by Grace; nothing was moved" in output
    assert (aliases(study), study.promotion_log.exists()) == ({}, False)


def test_a_run_that_is_cancelled_in_the_ui_ends_and_nothing_moves(study, prefect):
    client = SyncPrefectClient(prefect)
    with started(study, prefect, "flows.promote", "--dataset", "busi", "--approve") as process:
        run, _ = wait_for(lambda: question_to_a_human(client))
        client.set_flow_run_state(run.id, Cancelling())
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 3, output
    assert output.splitlines()[-1] == "error: the flow run was cancelled; nothing was done"
    assert (aliases(study), study.promotion_log.exists()) == ({}, False)


def test_a_promotion_started_and_approved_in_the_ui_moves_under_the_approvers_name(study, prefect):
    client = SyncPrefectClient(prefect)
    deployment = wait_for(lambda: next((each for each in client.read_deployments() if each.name == "promote"), None))
    choices = deployment.parameter_openapi_schema["properties"]
    assert sorted(choices["dataset"]["enum"]) == ["busi", "pbc"]
    assert choices["alias"]["enum"] == ["champion", "challenger"]
    client.create_flow_run_from_deployment(deployment.id, parameters={"dataset": "busi", "why": "asked"})
    run, question = wait_for(lambda: question_to_a_human(client))
    assert "| 2       | vit   | 1 of 1" in question
    answer(client, run, approve=True, by="Grace Hopper", why="looked at it")
    wait_for(lambda: client.read_flow_run(run.id).state.is_completed())
    assert aliases(study) == {"champion": "2", "challenger": "1"}
    move = read(study.promotion_log)[-1]
    assert (move.by, move.why) == ("Grace Hopper", "looked at it")
    assert study.client.get_model_version(NAME, "2").tags["promotion.by"] == "Grace Hopper"
    assert {"conditions-busi", "decision-busi"} <= {artifact.key for artifact in client.read_artifacts()}
