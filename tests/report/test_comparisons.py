"""Pairs, ranks, rulers and seeds on planted numbers."""

import numpy as np
import pandas as pd
import pytest

from pipeline.report.cells import load_cells
from pipeline.report.comparisons import method_pairs, model_pairs, model_ranks, ruler_agreement, seed_table
from pipeline.report.statistics_view import outdone
from pipeline.report.strata import accuracy_by_trait, strata_table
from tests.report.made_study import Study
from tests.report.worlds import METHODS, MODELS, made_evidence


def test_the_better_method_wins_its_pair_by_the_difference_planted() -> None:
    table = method_pairs(made_evidence({("vit", "gradcam"): {"insertion_gain": 0.3}}), 0, 500)
    (row,) = table.query("within == 'vit' and measure == 'insertion_gain'").to_dict("records")
    assert (row["one"], row["other"], row["images"]) == (*METHODS, 30)
    assert row["difference"] == pytest.approx(0.3)
    assert row["difference_low"] > 0
    assert row["win_share"] == 1
    assert row["rank_biserial"] == 1
    assert row["p_holm"] < 0.01


def test_corrected_p_values_belong_to_all_pairs_of_a_dataset_and_measure() -> None:
    table = method_pairs(made_evidence({("vit", "gradcam"): {"deletion_gain": 0.04}}), 0, 500)
    family = table.query("measure == 'deletion_gain'")
    first = family.loc[family["p_wilcoxon"].idxmin()]
    assert first["p_holm"] == pytest.approx(min(1, len(family) * first["p_wilcoxon"]))


def test_trivial_maps_are_opponents_but_not_of_each_other() -> None:
    evidence = made_evidence({})
    blobs = [evidence.query("method == 'gradcam'").assign(method=name, is_method=False) for name in ("centre", "edge")]
    table = method_pairs(pd.concat([evidence, *blobs]), 0, 500)
    pairs = set(table[["one", "other"]].itertuples(index=False, name=None))
    assert ("gradcam", "centre") in pairs
    assert ("centre", "edge") not in pairs
    models = model_pairs(pd.concat([evidence, *blobs]), 0, 500)
    assert set(models["within"]) == set(METHODS)


def test_each_pair_of_models_is_compared_on_their_shared_images() -> None:
    evidence = made_evidence({("dino", "gradcam"): {"pointing_game": 0.5}})
    evidence.loc[(evidence["model"] == "dino") & (evidence["row"] < 6), "pointing_game"] = np.nan
    table = model_pairs(evidence, 0, 500).query("within == 'gradcam' and measure == 'pointing_game'")
    assert len(table) == 3
    assert table.query("one == 'dino' or other == 'dino'")["images"].eq(24).all()
    assert table.query("one == 'vit' and other == 'swin'")["images"].item() == 30


def test_friedman_names_the_model_that_is_always_ahead() -> None:
    values = {("swin", "gradcam"): {"mass_ratio": 0.9}, ("vit", "gradcam"): {"mass_ratio": 0.4}}
    found = model_ranks(made_evidence(values)).query("method == 'gradcam' and measure == 'mass_ratio'").iloc[0]
    assert (found["best"], found["best_rank"], found["kendall_w"]) == ("swin", 1, pytest.approx(1))
    assert found["p_holm"] < 0.01


def test_rulers_that_rank_alike_agree_fully(study: Study) -> None:
    (cell,) = load_cells(study.data, ["busi"], ["vit"])
    table = ruler_agreement([cell])
    twice = table.query("one == 'insertion from blur' and other == 'insertion from blur (patches)'")
    assert twice["tau"].item() == pytest.approx(1)  # the made-up variant has the main protocol's scores
    assert set(table["one"]) >= {"insertion from blur", "deletion to zero", "pointing_game"}


def test_one_seed_makes_no_table_of_seeds(study: Study) -> None:
    cells = load_cells(study.data, study.datasets, study.models)
    assert seed_table(made_evidence({}), [cells], 0, 500).empty


def test_the_spread_of_seeds_is_that_of_their_means(study: Study) -> None:
    evidence = made_evidence({("vit", "gradcam"): {"insertion_gain": 0.3}}, seeds=(0, 1, 2))
    evidence["insertion_gain"] += evidence["seed"] * 0.1
    cells = load_cells(study.data, study.datasets, study.models)
    table = seed_table(evidence, [cells] * 3, 0, 500)
    row = table.query("model == 'vit' and method == 'gradcam' and measure == 'insertion_gain'").iloc[0]
    assert (row["seeds"], row["images"]) == (3, 30)
    assert row["mean"] == pytest.approx(0.4)
    assert row["sd_of_seeds"] == pytest.approx(0.1)
    assert row["mean_low"] < 0.4 - 0.1 < 0.4 + 0.1 < row["mean_high"]  # Student's t of three seeds is wide
    accuracy = table.query("dataset == 'busi' and model == 'vit' and measure == 'balanced_accuracy'").iloc[0]
    assert accuracy["mean_high"] - accuracy["mean_low"] < 1e-9  # the same cells three times


def test_strata_hold_the_means_of_their_images() -> None:
    evidence = made_evidence({("vit", "gradcam"): {"insertion_gain": 0.3}}, wrong=4)
    evidence["burnt_in_marks"] = np.where(evidence["row"] % 3 == 0, "marked", "plain")
    table = strata_table(evidence, ("burnt_in_marks",), 0, 500).query("model == 'vit' and method == 'gradcam'")
    assert dict(zip(table["level"], table["images"], strict=True)) == {
        "benign": 30, "right": 26, "wrong, for the class predicted": 4, "small": 30, "marked": 10, "plain": 20,
    }  # fmt: skip
    chosen = evidence.query("model == 'vit' and method == 'gradcam' and burnt_in_marks == 'marked'")
    found = table.query("level == 'marked'").iloc[0]
    assert found["insertion_gain"] == pytest.approx(chosen["insertion_gain"].mean())
    assert found["insertion_gain_low"] < found["insertion_gain"] < found["insertion_gain_high"]


def test_errors_explained_for_their_true_class_stand_apart() -> None:
    evidence = made_evidence({}, wrong=4)
    true = evidence.query("not correct").assign(target_rule="true", insertion_gain=0.7)
    table = strata_table(pd.concat([evidence, true]), (), 0, 500).query("stratum == 'answer'")
    assert len(table) == 3 * len(MODELS) * len(METHODS)
    assert set(table.query("level == 'wrong, for the true class'")["insertion_gain"].round(9)) == {0.7}


def test_a_stratum_is_of_the_registered_cell_alone() -> None:
    table = strata_table(made_evidence({}, seeds=(0, 1)), (), 0, 500).query("level == 'benign'")
    assert set(table["images"]) == {30}


def test_a_baseline_that_outdoes_every_method_of_a_model_is_named() -> None:
    gains = {
        "vit": {"gradcam": 0.2, "centre": 0.3, "swapped_gradcam": 0.1},
        "dino": {"gradcam": 0.4, "centre": 0.3, "swapped_gradcam": 0.5},
    }
    rows = [(model, *found) for model, each in gains.items() for found in each.items()]
    table = pd.DataFrame(rows, columns=["model", "method", "insertion_gain"])
    table["kind"] = table["method"].map({"gradcam": "method"}).fillna("baseline")
    assert outdone(table) == {"centre": ["vit"], "swapped_gradcam": ["dino"]}


def test_accuracy_by_trait_is_that_of_the_test_images_with_it(study: Study) -> None:
    (cell,) = load_cells(study.data, ["busi"], ["vit"])
    marks = pd.DataFrame({"burnt_in_marks": np.where(np.arange(48) % 3 == 0, "marked", "plain")})
    table = accuracy_by_trait([cell], {"busi": marks}).set_index("level")
    chosen = cell.predictions[cell.predictions["row"] % 3 == 0]
    assert table.loc["marked", "images"] == len(chosen)
    assert table.loc["marked", "accuracy"] == pytest.approx((chosen["label"] == chosen["predicted"]).mean())
    assert table["images"].sum() == len(cell.predictions)
    assert (table["accuracy_low"] < table["accuracy_high"]).all()
