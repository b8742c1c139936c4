"""Verdicts on planted numbers."""

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.params import FindingsParams
from pipeline.report.findings import (
    Finding,
    conclude,
    discriminative,
    misclassified,
    most_faithful,
    scattered,
    study_findings,
)
from pipeline.report.measures import Question, overall
from tests.report.made_study import RULES_OF_FINDINGS as RULES
from tests.report.worlds import CHANCE, made_evidence

AHEAD = {"insertion_gain": 0.3, "deletion_gain": 0.3, "pointing_game": 0.8, "mass_ratio": 0.5}
CLAIMED = ("dino", "gradcam")


def asked(values: np.ndarray, rules: FindingsParams = RULES, threshold: float = 0.0, below: bool = False) -> Finding:
    question = Question("busi", "measure", threshold, {"": pd.DataFrame({0: values})}, below)
    return conclude("F0", "claim", "rule", [question], rules, seed=0)


def test_the_claimed_pair_leading_everywhere_is_supported() -> None:
    found = most_faithful(made_evidence({CLAIMED: AHEAD}), RULES, seed=0)
    assert found.verdict == "supported"
    assert [each.effect for each in found.measures] == pytest.approx([0.3, 0.3, 0.8])


def test_another_pair_leading_is_not_supported_and_named() -> None:
    found = most_faithful(made_evidence({("vit", "gradient_rollout"): AHEAD}), RULES, seed=0)
    assert found.verdict == "not supported"
    assert {each.note for each in found.measures} == {"runner-up: vit with Gradient Attention Rollout"}


def test_leading_all_pairs_but_an_equal_one_is_undecided() -> None:
    found = most_faithful(made_evidence({CLAIMED: AHEAD, ("swin", "gradcam"): AHEAD}), RULES, seed=0)
    assert found.verdict == "undecided"
    assert {each.note for each in found.measures} == {"runner-up: swin with Grad-CAM"}
    assert {each.p for each in found.measures} == {1.0}  # the two differ on no image


def test_a_study_without_the_claimed_model_measures_no_lead() -> None:
    evidence = made_evidence({CLAIMED: AHEAD})
    found = most_faithful(evidence[evidence["model"] != "dino"], RULES, seed=0)
    assert found.verdict == "undecided"
    assert {each.verdict for each in found.measures} == {"not measured"}
    assert "model and method" in found.would_change


def test_maps_that_lie_in_the_mask_and_differ_by_class_are_discriminative_and_precise() -> None:
    precise = {(model, "gradcam"): AHEAD for model in ("vit", "dino", "swin")}
    pointing, mass, shared = discriminative(made_evidence(precise), RULES, seed=0).measures
    assert (pointing.verdict, mass.verdict, shared.verdict) == ("supported",) * 3
    assert pointing.effect == pytest.approx(0.8 - CHANCE)
    assert shared.effect == pytest.approx(0)


def test_maps_alike_for_both_classes_do_not_discriminate() -> None:
    alike = {(model, "gradcam"): AHEAD | {"shared_variance": 0.9} for model in ("vit", "dino", "swin")}
    found = discriminative(made_evidence(alike), RULES, seed=0)
    assert found.measures[2].verdict == found.verdict == "not supported"


@pytest.mark.parametrize(("gini", "verdict"), [(0.4, "supported"), (-0.4, "not supported"), (0.0, "undecided")])
def test_scatter_is_judged_by_the_gini_index(gini: float, verdict: str) -> None:
    values = {(model, "gradcam"): {"gini": gini} for model in ("vit", "dino", "swin")}
    assert scattered(made_evidence(values), RULES, seed=0).verdict == verdict


def test_only_the_errors_of_the_claimed_model_answer_the_fourth_claim() -> None:
    evidence = made_evidence({CLAIMED: {"pointing_game": 0.8}}, wrong=12)
    right = evidence["correct"] & (evidence["model"] == "dino")
    evidence.loc[right, "pointing_game"] = -5
    (found,) = misclassified(evidence, RULES, seed=0).measures
    assert found.n == 12
    assert found.verdict == "supported"


def test_a_blind_map_that_hits_nothing_is_not_proof_against_a_claim() -> None:
    """Of 12 blind guesses at masks of a tenth of the image, none hits in one of four cases."""
    evidence = made_evidence({}, wrong=12, spread=0.0)
    (found,) = misclassified(evidence, RULES, seed=0).measures
    assert (found.n, found.effect) == (12, pytest.approx(-CHANCE))
    assert found.verdict == "undecided"


def test_a_lead_over_the_strongest_rival_is_not_enough_where_another_is_known_less_well() -> None:
    """The closest rival is behind on every image alike; the other is further behind, but its seeds swing."""
    values = {CLAIMED: {"insertion_gain": 0.5}, ("vit", "gradcam"): {"insertion_gain": 0.4}}
    evidence = made_evidence(values, seeds=(0, 1, 2), spread=0.01)
    swings = evidence["seed"].map({0: -0.9, 1: 0.0, 2: 0.9}) * (evidence["model"] == "swin")
    rules = RULES.model_copy(update={"F1": {"insertion_gain": 0.0}})
    assert most_faithful(evidence, rules, seed=0).verdict == "supported"
    swung = most_faithful(evidence.assign(insertion_gain=evidence["insertion_gain"] + swings), rules, seed=0)
    assert swung.verdict == "undecided"
    assert swung.measures[0].note == "runner-up: vit with Grad-CAM"


def test_too_few_errors_decide_nothing_and_say_how_many_would() -> None:
    (found,) = misclassified(made_evidence({CLAIMED: AHEAD}, wrong=RULES.min_images - 1), RULES, seed=0).measures
    assert (found.verdict, found.p, found.low) == ("undecided", None, None)
    assert found.would_change == "at least 10 images to measure it on; here are 9 (explain.max_images)"


def test_images_without_masks_have_no_vote_on_localisation() -> None:
    evidence = made_evidence({}, wrong=12).assign(pointing_game=np.nan, chance=np.nan)
    found = misclassified(evidence, RULES, seed=0)
    assert [each.verdict for each in found.measures] == ["not measured"]
    assert found.verdict == "undecided"


@pytest.mark.parametrize(("shift", "verdict"), [(1.0, "supported"), (-1.0, "not supported"), (0.0, "undecided")])
@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_mean_interval_and_p_beside_the_threshold_decide(shift: float, verdict: str, test: str) -> None:
    rules = RULES.model_copy(update={"test": test})
    assert asked(np.linspace(-0.5, 0.5, 40) + shift, rules).verdict == verdict


def test_a_claim_from_below_is_read_the_other_way_round() -> None:
    values = np.linspace(0.1, 0.2, 40)
    assert asked(values, threshold=0.5, below=True).verdict == "supported"
    assert asked(values, threshold=0.05, below=True).verdict == "not supported"


def test_an_interval_that_excludes_the_threshold_is_not_enough_without_its_p() -> None:
    values = np.random.default_rng(0).normal(0.35, 1, 40)
    alone = asked(values).measures[0]
    questions = [Question("busi", str(number), 0.0, {"": pd.DataFrame({0: values})}) for number in range(8)]
    found = conclude("F0", "claim", "rule", questions, RULES, seed=0)
    assert alone.verdict == "supported"
    assert found.measures[0].p_holm == pytest.approx(8 * found.measures[0].p, rel=0.3)
    assert {each.verdict for each in found.measures} == {"undecided"}
    assert "corrected p" in found.measures[0].would_change


def test_an_undecided_measure_says_how_many_images_would_decide_it() -> None:
    values = np.random.default_rng(0).normal(0.1, 1, 40)
    measure = asked(values).measures[0]
    needed = math.ceil(40 * ((measure.high - measure.low) / 2 / measure.effect) ** 2)
    assert measure.would_change.startswith(f"at least {needed} images")
    assert "clearer effect" in asked(values - values.mean() + 1e-9).measures[0].would_change


def test_seeds_that_disagree_leave_a_claim_undecided() -> None:
    sure = made_evidence({(model, "gradcam"): {"gini": 0.1} for model in ("vit", "dino", "swin")}, seeds=(0, 1, 2))
    assert scattered(sure, RULES, seed=0).verdict == "supported"
    swings = sure["seed"].map({0: -0.4, 1: 0.0, 2: 0.4}) * (sure["method"] == "gradcam")
    assert scattered(sure.assign(gini=sure["gini"] + swings), RULES, seed=0).verdict == "undecided"


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "not measured"], "supported"),
        (["supported", "undecided"], "undecided"),
        (["supported", "undecided", "not supported"], "not supported"),
        (["not measured"], "undecided"),
        ([], "undecided"),
    ],
)
def test_a_claim_needs_every_measure_taken(verdicts: list[str], expected: str) -> None:
    assert overall(verdicts) == expected


def test_all_four_claims_are_answered_and_say_what_would_change_them() -> None:
    found = study_findings(made_evidence({CLAIMED: AHEAD}, wrong=5), RULES, seed=0)
    assert [each.id for each in found] == ["F1", "F2", "F3", "F4"]
    assert all(each.would_change for each in found)


def test_a_world_without_effects_supports_no_claim_more_often_than_alpha_allows() -> None:
    rng, worlds = np.random.default_rng(0), 120
    verdicts = [asked(rng.normal(size=25)).verdict for _ in range(worlds)]
    assert sum(each != "undecided" for each in verdicts) / worlds <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / worlds)
