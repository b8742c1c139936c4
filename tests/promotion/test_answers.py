"""Metrics of answers: exact on worlds made by hand, equal to scikit-learn's, with the intervals of `statistics`."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from pipeline.promotion.answers import measured_answers
from pipeline.promotion.measurement import NOTHING, Resampling, measurement
from pipeline.statistics import share_interval, sign_interval, stratified_interval
from tests.promotion.worlds import made_answers
from tests.report.made_study import CLASSES

DRAWS = Resampling(seed=3, resamples=400)


def found(answers, measure, over_majority=False, draws=DRAWS):
    return measured_answers(answers, CLASSES["busi"], measure, over_majority, draws)


def test_accuracy_is_a_share_with_wilsons_interval():
    assert found(made_answers("nnbbmm", "nnbbbn"), "accuracy") == measurement(share_interval(4 / 6, 6), 6)


def test_balanced_accuracy_is_the_mean_recall_and_draws_within_classes():
    answers = made_answers("bbbbbbmmnn", "bbbbbbmnbb")
    strata = [np.ones(6), np.array([1.0, 0.0]), np.zeros(2)]
    assert found(answers, "balanced_accuracy") == measurement(stratified_interval(strata, 3, 400), 10)
    assert found(answers, "balanced_accuracy").value == pytest.approx(0.5)


def test_the_lead_over_the_most_frequent_class_is_counted_in_pairs():
    answers = made_answers("bbbbmm", "bbbnmm")
    differences = np.array([0.0, 0, 0, -1, 1, 1])
    assert found(answers, "accuracy", over_majority=True) == measurement(sign_interval(differences), 6)
    assert found(answers, "balanced_accuracy", over_majority=True).value == pytest.approx((3 / 4 + 1) / 2 - 1 / 2)
    guess = f1_score(answers["label"], ["benign"] * 6, labels=["benign", "malignant"], average="macro")
    own = f1_score(answers["label"], answers["predicted"], labels=["benign", "malignant"], average="macro")
    assert found(answers, "macro_f1", over_majority=True).value == pytest.approx(own - guess)


def test_a_model_that_always_gives_the_most_frequent_class_leads_by_nothing():
    answers = made_answers("bbbbmmn", "bbbbbbb")
    for measure in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found(answers, measure, over_majority=True).value == pytest.approx(0)


def random_answers(images, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(list("nbm"), images)
    predicted = np.where(rng.random(images) < 0.6, labels, rng.choice(list("nbm"), images))
    return made_answers("".join(labels), "".join(predicted))


def sklearn_f1(answers):
    return f1_score(answers["label"], answers["predicted"], average="macro")


def sklearn_auroc(answers):
    return np.mean([roc_auc_score(answers["label"] == name, answers[f"p_{name}"]) for name in CLASSES["busi"]])


@pytest.mark.parametrize("seed", range(4))
def test_macro_f1_and_auroc_are_scikit_learns(seed):
    answers = random_answers(40, seed)
    assert found(answers, "macro_f1").value == pytest.approx(sklearn_f1(answers))
    assert found(answers, "macro_auroc").value == pytest.approx(sklearn_auroc(answers))
    assert found(answers, "macro_auroc", over_majority=True).value == pytest.approx(sklearn_auroc(answers) - 0.5)


@pytest.mark.parametrize(("measure", "twin"), [("macro_f1", sklearn_f1), ("macro_auroc", sklearn_auroc)])
def test_their_intervals_are_those_of_a_slow_bootstrap_within_classes(measure, twin):
    answers, rng = random_answers(300, 9), np.random.default_rng(1)
    slow = [twin(answers.groupby("label").sample(frac=1, replace=True, random_state=rng)) for _ in range(120)]
    fast = found(answers, measure, draws=Resampling(0, 4000))
    assert (fast.low, fast.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.03)


def test_images_of_one_class_have_no_auroc():
    answers = made_answers("bbb", "bbm")
    assert found(answers, "macro_auroc") == measurement((float("nan"),) * 3, 3)
    assert found(answers, "macro_f1").value == pytest.approx(0.8)


def test_no_image_measures_nothing():
    assert found(made_answers("bm", "bm").iloc[:0], "accuracy") == NOTHING
