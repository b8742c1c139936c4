"""The table of evidence holds the cells' own numbers."""

import numpy as np
import pandas as pd
import pytest

from pipeline.records import Summary
from pipeline.report.cells import load_cells
from pipeline.report.evidence import evidence_of, gini, r_squared
from tests.report.made_study import BASELINES, METHODS, Study

TRAITS = {"busi": pd.DataFrame({"burnt_in_marks": ["marked", "plain"] * 24}), "pbc": pd.DataFrame(index=range(48))}


@pytest.fixture(scope="module")
def evidence(study: Study) -> pd.DataFrame:
    return evidence_of(load_cells(study.data, study.datasets, study.models), TRAITS)


def test_each_image_method_and_rule_of_a_cell_has_one_line(study: Study, evidence: pd.DataFrame) -> None:
    keys = ["dataset", "model", "seed", "row", "method", "target_rule"]
    assert not evidence.duplicated(keys).any()
    scores = pd.read_csv(study.data / "scores" / "busi" / "dino" / "scores.csv")
    assert len(evidence.query("dataset == 'busi' and model == 'dino'")) * 2 == len(scores)


@pytest.mark.parametrize("method", [*METHODS, *BASELINES])
def test_mean_gains_are_the_summarys(study: Study, evidence: pd.DataFrame, method: str) -> None:
    chosen = evidence.query("dataset == 'busi' and model == 'vit' and method == @method and target_rule == 'predicted'")
    metrics = Summary.read(study.data / "scores" / "busi" / "vit").metrics[method]
    assert chosen["insertion_auc"].mean() == pytest.approx(metrics["insertion_auc"])
    if method == "random":
        assert chosen["insertion_gain"].isna().all()


def test_a_gain_is_positive_where_the_method_beats_its_random_map(study: Study, evidence: pd.DataFrame) -> None:
    lines = evidence.query("dataset == 'pbc' and model == 'vit' and target_rule == 'predicted'").set_index("row")
    own, twin = (lines[lines["method"] == name] for name in ("gradcam", "random"))
    assert own["insertion_gain"].tolist() == pytest.approx((own["insertion_auc"] - twin["insertion_auc"]).tolist())
    assert own["deletion_gain"].tolist() == pytest.approx((twin["deletion_auc"] - own["deletion_auc"]).tolist())


def test_the_least_relevant_first_turns_gains_round(study: Study) -> None:
    (cell,) = load_cells(study.data, ["busi"], ["vit"])
    reverse = cell.summary.model_copy(update={"order": "least_relevant_first"})
    one = evidence_of([cell], TRAITS)
    other = evidence_of([cell.__class__(**{**cell.__dict__, "summary": reverse})], TRAITS)
    assert other["insertion_gain"].dropna().tolist() == pytest.approx((-one["insertion_gain"].dropna()).tolist())


def test_traits_and_places_stand_by_their_image(study: Study, evidence: pd.DataFrame) -> None:
    lines = evidence.query("dataset == 'busi'")
    assert (lines["burnt_in_marks"] == lines["row"].map(lambda row: ["marked", "plain"][row % 2])).all()
    assert evidence.query("dataset == 'pbc'")["burnt_in_marks"].isna().all()
    assert evidence.query("dataset == 'pbc'")["pointing_game"].isna().all()
    assert lines.query("label == 'normal'")["pointing_game"].isna().all()


def test_maps_that_are_the_same_for_both_classes_share_all_variance(study: Study) -> None:
    (cell,) = load_cells(study.data, ["busi"], ["dino"])
    maps = cell.heatmaps
    places = [maps.position("predicted", int(row)) for row in maps.rows["true"]]
    same = maps.attributions | {"gradcam/true": maps.attributions["gradcam/predicted"][places] * 3}
    changed = cell.__class__(**{**cell.__dict__, "heatmaps": maps.__class__(**{**maps.__dict__, "attributions": same})})
    found = evidence_of([changed], TRAITS).query("method == 'gradcam' and target_rule == 'predicted'")
    assert found.loc[~found["correct"], "shared_variance"].tolist() == pytest.approx([1.0] * len(places))
    assert found.loc[found["correct"], "shared_variance"].isna().all()


def test_a_constant_map_shares_nothing_that_could_be_measured() -> None:
    assert np.isnan(r_squared(np.ones((4, 4)), np.eye(4)))


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
