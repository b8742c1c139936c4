"""The section `promotion`: what it allows, and every fault refused by its full key."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import StudyError
from pipeline.params import load_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def with_promotion(tmp_path):
    """params.yaml with parts of the section changed, loaded."""

    def load(**changes):
        tree = yaml.safe_load((ROOT / "params.yaml").read_text())
        tree["promotion"] |= changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
        return load_params(tmp_path / "params.yaml").promotion

    return load


@pytest.mark.parametrize("name", ["params.yaml", "params/paper.yaml"])
def test_the_shipped_policies_ask_for_performance_and_for_explanations(name):
    policy = load_params(ROOT / name).promotion
    for dataset in ("pbc", "busi"):
        assert {condition.source for condition in policy.of_dataset(dataset)} >= {"test", "gradcam"}
    assert len(policy.of_dataset("busi")) > len(policy.of_dataset("pbc"))


@pytest.mark.parametrize(
    "condition",
    [
        {"metric": "test/macro_auroc", "better_than": "majority"},
        {"metric": "test/accuracy", "at_least": 0.5, "slice": "class=benign"},
        {"metric": "gradient_rollout/deletion_auc", "better_than": "edge", "slice": "size=small"},
        {"metric": "gradcam/mass_ratio", "better_than": "chance", "slice": "misclassified"},
        {"metric": "gradcam/gini", "at_most": 0.9, "datasets": ["pbc"]},
    ],
)
def test_a_condition_that_makes_sense_is_taken(with_promotion, condition):
    assert with_promotion(conditions=[condition]).conditions[0].metric == condition["metric"]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {"metric": "lime/insertion_gain", "at_least": 0},
            r"0\.metric: unknown method 'lime'; choose from test, gradcam,",
        ),
        ({"metric": "test/f1", "at_least": 0}, r"0\.metric: unknown measure 'f1'; choose from test/accuracy,"),
        ({"metric": "accuracy", "at_least": 0}, r"0\.metric: unknown method 'accuracy'"),
        (
            {"metric": "rise/insertion_gain", "at_least": 0},
            r"0\.metric: unknown rise in this study; choose from test, gra",
        ),
        (
            {"metric": "test/accuracy", "at_least": 0.5, "at_most": 1},
            r"0: needs exactly one .* has at_least and at_most",
        ),
        ({"metric": "test/accuracy"}, r"0: needs exactly one of at_least, at_most and better_than; it has none"),
        ({"metric": "test/accuracy", "at_least": 60}, r"0\.at_least: Input should be less than or equal to 1"),
        ({"metric": "test/accuracy", "better_than": "luck"}, r"0\.better_than: Input should be 'random', 'centre'"),
        (
            {"metric": "test/accuracy", "better_than": "random"},
            r"0: better_than random makes no sense for test/accuracy; ch",
        ),
        ({"metric": "gradcam/insertion_gain", "better_than": "majority"}, r"choose from random, centre, edge"),
        ({"metric": "gradcam/insertion_gain", "better_than": "chance"}, r"choose from random, centre, edge"),
        ({"metric": "gradcam/gini", "better_than": "random"}, r"use at_least or at_most"),
        (
            {"metric": "gradcam/deletion_auc", "at_most": 0.3},
            r"0: gradcam/deletion_auc is raw, the same bound cannot suit",
        ),
        ({"metric": "test/accuracy", "at_least": 0.5, "slice": "small"}, r"0\.slice: String should match pattern"),
        (
            {"metric": "test/accuracy", "at_least": 0.5, "slice": "correct"},
            r"0: slice correct decides test/accuracy by it",
        ),
        (
            {"metric": "test/macro_f1", "at_least": 0.5, "slice": "class=benign"},
            r"0: a slice of one class has only a recall",
        ),
        (
            {"metric": "test/accuracy", "better_than": "majority", "slice": "class=benign"},
            r"0: a slice of one class has",
        ),
        (
            {"metric": "test/accuracy", "at_least": 0.5, "slice": "size=small"},
            r"0: slice size is known of explained images",
        ),
        (
            {"metric": "test/accuracy", "at_least": 0.5, "datasets": ["mnist"]},
            r"0\.datasets: unknown mnist in this study",
        ),
        ({"metric": "test/accuracy", "atleast": 0.5}, r"0\.atleast: unknown key"),
    ],
)
def test_a_fault_in_a_condition_is_refused_by_its_full_key(with_promotion, condition, words):
    with pytest.raises(StudyError, match=rf"params\.yaml: .*{words}") as refused:
        with_promotion(conditions=[condition])
    assert "promotion.conditions.0" in str(refused.value)


@pytest.mark.parametrize(
    ("ranking", "words"),
    [
        (["gradcam/insertion_auc"], r"promotion\.ranking\.0: gradcam/insertion_auc cannot be compared across models"),
        (["test/accuracy", "gradcam/gini"], r"promotion\.ranking\.1: gradcam/gini cannot be compared"),
        (["rise/insertion_gain"], r"promotion\.ranking\.0: unknown rise in this study"),
        (["test/f1"], r"promotion\.ranking\.0: unknown measure 'f1'"),
        ([], r"promotion\.ranking: Tuple should have at least 1 item"),
    ],
)
def test_a_fault_in_the_ranking_is_refused_by_its_full_key(with_promotion, ranking, words):
    with pytest.raises(StudyError, match=words):
        with_promotion(ranking=ranking)


def test_a_policy_without_conditions_is_refused(with_promotion):
    with pytest.raises(StudyError, match=r"promotion\.conditions: Tuple should have at least 1 item"):
        with_promotion(conditions=[])
