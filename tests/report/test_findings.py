"""Verdicts on planted numbers."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.report.cells import Cell, load_cells
from pipeline.report.findings import (
    MIN_IMAGES,
    discriminative,
    gain,
    gini,
    measure,
    misclassified,
    most_faithful,
    overall,
    scattered,
    shared_variance,
    study_findings,
)
from tests.report.made_study import Study


@pytest.fixture
def cells(study: Study) -> list[Cell]:
    """Both models on busi, which has masks."""
    return load_cells(study.data, ["busi"], study.models)


def with_scores(cell: Cell, aucs: dict[str, tuple[float, float]], hits: dict[str, float]) -> Cell:
    """The cell with insertion and deletion AUCs, and pointing hits, planted by method; images differ a little."""
    scores, places = cell.scores.copy(), cell.localisation.copy()
    for method, (insertion, deletion) in aucs.items():
        for curve, value in (("insertion", insertion), ("deletion", deletion)):
            chosen = (scores["method"] == method) & (scores["curve"] == curve)
            scores.loc[chosen, "auc"] = value + scores.loc[chosen, "row"] * 1e-4
    places["pointing_hit"] = places["method"].map(hits).astype(float)
    return replace(cell, scores=scores, localisation=places)


LEVEL = {"random": (0.5, 0.5), "gradient_rollout": (0.5, 0.5), "gradcam": (0.5, 0.5)}
BEST = LEVEL | {"gradcam": (0.7, 0.3)}
MISSES, HITS = {"gradcam": 0.0, "gradient_rollout": 0.0}, {"gradcam": 1.0, "gradient_rollout": 0.0}


def test_dino_with_gradcam_leading_everywhere_is_supported(cells: list[Cell]) -> None:
    vit, dino = cells
    found = most_faithful([with_scores(vit, LEVEL, MISSES), with_scores(dino, BEST, HITS)], seed=0)
    assert found.verdict == "supported"
    assert [each.effect for each in found.measures] == pytest.approx([0.2, 0.2, 1.0])


def test_another_pair_leading_is_not_supported_and_named(cells: list[Cell]) -> None:
    vit, dino = cells
    found = most_faithful([with_scores(vit, BEST, HITS), with_scores(dino, LEVEL, MISSES)], seed=0)
    assert found.verdict == "not supported"
    assert {each.note for each in found.measures} == {"runner-up: vit with gradcam"}


def test_equal_pairs_are_undecided(cells: list[Cell]) -> None:
    vit, dino = cells
    found = most_faithful([with_scores(vit, BEST, HITS), with_scores(dino, BEST, HITS)], seed=0)
    assert found.verdict == "undecided"


def test_a_study_without_dino_measures_no_lead(cells: list[Cell]) -> None:
    found = most_faithful(cells[:1], seed=0)
    assert found.verdict == "undecided"
    assert {each.verdict for each in found.measures} == {"not measured"}


def test_a_gain_is_positive_where_the_method_beats_its_random_map(cells: list[Cell]) -> None:
    cell = with_scores(cells[0], BEST, HITS)
    assert gain(cell, "gradcam", "insertion").tolist() == pytest.approx([0.2] * cell.explanation.images)
    assert gain(cell, "gradcam", "deletion").tolist() == pytest.approx([0.2] * cell.explanation.images)


def test_maps_that_hit_the_mask_and_differ_by_class_are_discriminative_and_precise(cells: list[Cell]) -> None:
    precise = [with_scores(cell, LEVEL, HITS) for cell in cells]
    pointing, mass, shared = discriminative(precise, seed=0).measures
    assert pointing.verdict == "supported"
    assert pointing.effect == pytest.approx(1 - 0.11)
    assert mass.verdict == "supported"
    assert shared.effect is not None
    assert shared.effect < 0.5


def test_maps_that_miss_the_mask_are_not_precise(cells: list[Cell]) -> None:
    found = discriminative([with_scores(cell, LEVEL, MISSES) for cell in cells], seed=0)
    assert found.verdict == "not supported"


def test_maps_that_are_the_same_for_both_classes_share_all_variance(cells: list[Cell]) -> None:
    maps = cells[0].heatmaps
    places = [maps.position("predicted", int(row)) for row in maps.rows["true"]]
    same = maps.attributions | {"gradcam/true": maps.attributions["gradcam/predicted"][places] * 3}
    values = shared_variance(replace(cells[0], heatmaps=replace(maps, attributions=same)), "gradcam")
    assert values.tolist() == pytest.approx([1.0] * len(places))


def test_rollout_maps_flatter_than_gradcam_are_more_scattered(cells: list[Cell]) -> None:
    assert scattered(cells, seed=0).verdict == "supported"  # the made-up Grad-CAM maps are cubes of random numbers


def test_errors_that_still_point_into_the_mask_need_enough_images(cells: list[Cell]) -> None:
    hits = [with_scores(cell, LEVEL, HITS) for cell in cells]
    (found,) = misclassified(hits, seed=0).measures
    assert 0 < found.n < MIN_IMAGES
    assert found.verdict == "undecided"
    assert found.effect == pytest.approx(1 - 0.11)


def test_a_dataset_without_masks_has_no_vote_on_localisation(study: Study) -> None:
    found = misclassified(load_cells(study.data, ["pbc"], study.models), seed=0)
    assert [each.verdict for each in found.measures] == ["not measured"]
    assert found.verdict == "undecided"


@pytest.mark.parametrize(("shift", "verdict"), [(1.0, "supported"), (-1.0, "not supported"), (0.0, "undecided")])
def test_an_interval_beside_zero_decides(shift: float, verdict: str) -> None:
    values = pd.Series(np.linspace(-0.5, 0.5, 40) + shift)
    assert measure("d", "m", values, seed=0).verdict == verdict


def test_a_claim_from_below_is_read_the_other_way_round() -> None:
    values = pd.Series(np.linspace(0.1, 0.2, 40))
    assert measure("d", "m", values, seed=0, null=0.5, below=True).verdict == "supported"
    assert measure("d", "m", values, seed=0, null=0.05, below=True).verdict == "not supported"


def test_few_images_decide_nothing() -> None:
    assert measure("d", "m", pd.Series([1.0] * (MIN_IMAGES - 1)), seed=0).verdict == "undecided"


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


def test_gini_of_a_flat_map_is_0_and_of_one_bright_point_almost_1() -> None:
    point = np.zeros((10, 10))
    point[3, 4] = 5
    assert gini(np.ones((10, 10))) == pytest.approx(0)
    assert gini(point) == pytest.approx(0.99)
    assert np.isnan(gini(np.zeros((10, 10))))


def test_gini_equals_the_mean_difference_of_all_pairs() -> None:
    values = np.random.default_rng(0).random((3, 4))
    pairs = [abs(one - other) for one in values.flat for other in values.flat]
    assert gini(values) == pytest.approx(sum(pairs) / (2 * values.size * values.sum()))


def test_all_four_claims_are_answered(study: Study) -> None:
    found = study_findings(load_cells(study.data, study.datasets, study.models), seed=0)
    assert [each.id for each in found] == ["F1", "F2", "F3", "F4"]
