"""How far a store is along the promotion log, and which last line may be finished in it."""

import pytest
from mlflow.entities.model_registry import ModelVersion

from pipeline.promotion.state import ModelState, cut_off, is_of_another_log
from tests.promotion.test_log import FIRST, NAME, SECOND, THIRD, move

LOG = [FIRST, SECOND, THIRD]  # champion and challenger: 1 -, 2 1, 3 2


def state(finished=None, **aliases):
    """Versions 1 to 4; of 4 nothing tells the checkpoint."""
    known = {number: f"sha of {number}" for number in "123"}
    versions = {checkpoint: ModelVersion(NAME, number, 0) for number, checkpoint in known.items()}
    return ModelState(NAME, versions, known, aliases, finished.sha256 if finished else None)


@pytest.mark.parametrize(
    ("finished", "aliases"),
    [
        (None, {}),  # made again
        (None, {"champion": "3"}),
        (SECOND, {"champion": "2", "challenger": "1"}),
        (SECOND, {"champion": "3"}),
        (SECOND, {"champion": "3", "challenger": "1"}),
    ],
)
def test_a_move_is_finished_from_wherever_it_may_have_been_cut_off(finished, aliases):
    assert cut_off(state(finished, **aliases), LOG) == THIRD


@pytest.mark.parametrize(
    ("finished", "aliases", "log"),
    [
        (THIRD, {"champion": "1"}, LOG),  # finished, then moved by hand
        (FIRST, {"champion": "2", "challenger": "1"}, LOG),  # not the line before the last
        (SECOND, {"champion": "1", "challenger": "2"}, LOG),  # moved by hand meanwhile
        (SECOND, {"champion": "4", "challenger": "1"}, LOG),
        (None, {"champion": "1"}, LOG),
        (move("32", "12"), {"champion": "2"}, LOG),  # of another log
        (None, {}, []),
    ],
)
def test_what_is_not_known_to_be_cut_off_is_left(finished, aliases, log):
    assert cut_off(state(finished, **aliases), log) is None


def test_an_older_line_that_git_left_last_is_not_finished():
    newer = THIRD.model_copy(update={"at": "2026-01-02T00:00:00+00:00"})
    assert cut_off(state(newer, champion="2", challenger="1"), [FIRST, newer, SECOND]) is None


def test_a_model_without_versions_has_nothing_to_finish():
    empty = ModelState(NAME, {}, {}, {}, None)
    assert cut_off(empty, LOG) is None


@pytest.mark.parametrize(
    ("finished", "log", "is_other"), [(None, LOG, False), (SECOND, LOG, False), (THIRD, [FIRST], True)]
)
def test_a_line_that_the_log_does_not_have_is_of_another(finished, log, is_other):
    assert is_of_another_log(state(finished), log) == is_other
