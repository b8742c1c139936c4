"""Tables hold the inputs' numbers, as CSV and as LaTeX."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import StudyError
from pipeline.records import Classification, Summary
from pipeline.report.cells import load_cells
from pipeline.report.console import console_table
from pipeline.report.misclassified import misclassified_table
from pipeline.report.tables import (
    MAP_METRICS,
    arrow,
    classification_table,
    heatmap_table,
    mark_best,
    nested_metrics,
)
from tests.report.made_study import BASELINES, METHODS, Study


def test_every_score_in_the_heatmap_table_is_the_summarys(study: Study) -> None:
    table = heatmap_table(load_cells(study.data, study.datasets, study.models))
    assert len(table) == 4 * len((*METHODS, *BASELINES))
    for row in table.to_dict("records"):
        metrics = Summary.read(study.data / "scores" / row["dataset"] / row["model"]).metrics[row["method"]]
        shown = {name: row[name] for name in MAP_METRICS if pd.notna(row[name])}
        assert shown == metrics


def test_accuracy_stands_beside_the_scores(study: Study) -> None:
    row = heatmap_table(load_cells(study.data, ["pbc"], ["dino"])).iloc[0]
    test = Classification.read(study.data / "models" / "pbc" / "dino").test
    assert (row["accuracy"], row["balanced_accuracy"]) == (test["accuracy"], test["balanced_accuracy"])


def test_the_misclassified_table_names_every_error_once(study: Study) -> None:
    table = misclassified_table(load_cells(study.data, ["busi"], ["vit"]))
    predictions = pd.read_csv(study.data / "models" / "busi" / "vit" / "predictions.csv")
    assert table["file"].tolist() == predictions.loc[~predictions["correct"], "file"].tolist()
    assert (table["label"] != table["predicted"]).all()
    assert (table["probability_predicted"] > table["probability_label"]).all()


def test_the_misclassified_table_carries_the_aucs_of_both_rules(study: Study) -> None:
    row = misclassified_table(load_cells(study.data, ["busi"], ["vit"])).iloc[0]
    scores = pd.read_csv(study.data / "scores" / "busi" / "vit" / "scores.csv")
    chosen = scores.query(
        "row == @row['row'] and method == 'gradcam' and target_rule == 'true' and curve == 'deletion'"
    )
    assert row["gradcam_true_deletion_auc"] == chosen["auc"].item()


def test_metrics_nest_dataset_model_method_and_test(study: Study) -> None:
    metrics = nested_metrics(load_cells(study.data, study.datasets, study.models))
    summary = Summary.read(study.data / "scores" / "busi" / "dino")
    assert metrics["busi"]["dino"]["gradcam"] == summary.metrics["gradcam"]
    assert metrics["pbc"]["vit"]["test"]["macro_auroc"] == 0.9
    assert list(metrics) == ["pbc", "busi"]


def test_accuracies_lie_within_their_intervals(study: Study) -> None:
    table = classification_table(load_cells(study.data, study.datasets, study.models), 0, 500)
    assert ((table["accuracy_low"] < table["accuracy"]) & (table["accuracy"] < table["accuracy_high"])).all()
    assert (table["balanced_accuracy_low"] < table["balanced_accuracy_high"]).all()


def test_the_best_is_sought_among_methods_only() -> None:
    table = pd.DataFrame({"kind": ["method", "method", "baseline"], "deletion_auc": [0.4, 0.3, 0.1]})
    assert mark_best(table, "deletion_auc").tolist() == [False, True, False]


def test_the_best_is_sought_in_each_group() -> None:
    table = pd.DataFrame({"model": ["a", "a", "b", "b"], "insertion_auc": [0.4, 0.3, 0.1, 0.2]})
    assert mark_best(table, "insertion_auc", ["model"]).tolist() == [True, False, False, True]


def test_a_method_without_a_rival_is_not_the_best() -> None:
    table = pd.DataFrame({"kind": ["method", "method"], "insertion_auc": [0.4, None], "model": ["a", "b"]})
    assert not mark_best(table, "insertion_auc", ["model"]).any()


def test_the_console_table_fits_and_names_every_cell(report: Path) -> None:
    lines = console_table(report).splitlines()
    assert max(map(len, lines)) <= 120
    assert sum(line.startswith(("pbc", "busi")) for line in lines) == 2 * 2 * len(METHODS)
    assert [line[:2] for line in lines[-5:]] == ["F1", "F2", "F3", "F4", "S1"]


def test_the_console_table_without_a_report_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="dvc repro report"):
        console_table(tmp_path)


def test_only_the_raw_deletion_auc_is_better_when_lower() -> None:
    assert (arrow("insertion_auc"), arrow("deletion_auc"), arrow("deletion_gain")) == ("↑", "↓", "↑")
