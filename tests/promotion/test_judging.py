"""A version passes where it meets every condition; those that pass are ranked; others are named with the reason."""

import pytest

from pipeline.params import Condition
from pipeline.promotion.judging import decide, judge, mean_ranks
from pipeline.promotion.registered import Unusable
from tests.promotion.worlds import NAME, made_answers, made_evidence, made_policy, made_version

ACCURATE = {"metric": "test/accuracy", "at_least": 0.5}


def judged(version, **condition):
    return judge(version, Condition.model_validate(condition), made_policy(ACCURATE))


@pytest.mark.parametrize(
    ("bound", "why_not"),
    [
        ({"at_least": 0.75}, ""),
        ({"at_least": 0.76}, "test/accuracy: 0.750 is below 0.76"),
        ({"at_most": 0.75}, ""),
        ({"at_most": 0.74}, "test/accuracy: 0.750 is above 0.74"),
    ],
)
def test_a_bound_is_met_by_the_value(cell, bound, why_not):
    found = judged(made_version(cell, "1", made_answers("nnbb", "nnbm")), metric="test/accuracy", **bound)
    assert (found.passed, found.why_not) == (not why_not, why_not)


@pytest.mark.parametrize(("gains", "passed"), [([0.1, 0.2, 0.3, 0.2], True), ([0.9, 0.9, -0.5, -0.2], False)])
def test_a_lead_must_be_one_with_its_whole_interval(cell, gains, passed):
    version = made_version(cell, "1", evidence=made_evidence({"gradcam": {"insertion_gain": gains}}))
    found = judged(version, metric="gradcam/insertion_gain", better_than="random")
    assert found.measured.value > 0
    assert found.passed == passed == (found.measured.low > 0)


def test_no_lead_at_all_is_no_lead(cell):
    version = made_version(cell, "1", evidence=made_evidence({"gradcam": {"insertion_gain": [0.0, 0.0, 0.0]}}))
    assert not judged(version, metric="gradcam/insertion_gain", better_than="random").passed


def test_too_few_images_decide_nothing_so_the_condition_fails(cell):
    version = made_version(cell, "1", made_answers("nbbbb", "nbbbb"))
    found = judged(version, metric="test/accuracy", at_least=0.1, slice="class=normal")
    assert (found.passed, found.why_not) == (False, "test/accuracy (class=normal): measured on 1 images, 2 are needed")


def test_what_was_not_measured_fails(cell):
    found = judged(made_version(cell, "1"), metric="gradcam/insertion_gain", at_most=1, slice="class=normal")
    assert found.why_not == "gradcam/insertion_gain (class=normal): not measured"


def test_a_condition_of_another_dataset_is_not_asked_for(cell):
    policy = made_policy(ACCURATE, {"metric": "test/accuracy", "at_least": 1, "datasets": ["pbc"]})
    decision = decide(NAME, [made_version(cell, "1", made_answers("nnbb", "nnbm"))], policy)
    assert [len(each.conditions) for each in decision.passing] == [1]


def test_the_rank_is_the_mean_over_metrics_and_ties_go_by_the_first(cell):
    answers = {"1": "nnbb", "2": "nnbm", "3": "nnmm"}  # accuracy 1, 0.75, 0.5
    gains = {"1": 0.1, "2": 0.4, "3": 0.3}
    versions = [
        made_version(
            cell,
            number,
            made_answers("nnbb", given),
            made_evidence({"gradcam": {"insertion_gain": [gains[number]] * 4}}),
        )
        for number, given in answers.items()
    ]
    policy = made_policy(ACCURATE, ranking=("test/accuracy", "gradcam/insertion_gain"))
    assert [(each.version, each.mean_rank) for each in decide(NAME, versions, policy).passing] == [
        ("2", 1.5), ("1", 2.0), ("3", 2.5),
    ]  # fmt: skip
    both = decide(NAME, versions[:2], policy).passing
    assert [(each.version, each.mean_rank) for each in both] == [("1", 1.5), ("2", 1.5)]


def test_equal_versions_go_newest_first_and_ten_is_newer_than_nine(cell):
    decision = decide(NAME, [made_version(cell, number) for number in ("9", "10")], made_policy(ACCURATE))
    assert [each.version for each in decision.passing] == ["10", "9"]


def test_mean_ranks_share_ties_and_put_what_was_not_measured_last():
    assert mean_ranks([[0.9, None], [0.9, 0.1], [0.2, 0.5]]) == [pytest.approx(2.25), 1.75, 2.0]


def test_a_version_that_fails_has_no_rank_and_stands_last(cell):
    versions = [made_version(cell, "1"), made_version(cell, "2", made_answers("nnbb", "mmmm"))]
    decision = decide(NAME, versions, made_policy(ACCURATE))
    assert [(each.version, each.mean_rank) for each in decision.candidates] == [("1", 1.0), ("2", None)]
    assert decision.candidates[1].why_not == "test/accuracy: 0.000 is below 0.5"


def test_a_version_whose_files_do_not_hold_is_named_with_the_reason(cell):
    versions = [Unusable("1", "vit", "its weights are gone"), made_version(cell, "2")]
    left_out = decide(NAME, versions, made_policy(ACCURATE)).left_out
    assert [(each.version, each.reason) for each in left_out] == [("1", "its weights are gone")]


def test_a_model_without_versions_is_an_empty_decision():
    decision = decide(NAME, [], made_policy(ACCURATE))
    assert (decision.candidates, decision.left_out) == ((), ())
