"""Every test image that a model got wrong, as a table."""

from collections.abc import Sequence

import pandas as pd

from pipeline.report.cells import Cell


def misclassified_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Every test image that a model got wrong, with the AUCs of its maps for either class where it was explained."""
    frames = [_misclassified(cell) for cell in cells]
    return pd.concat(frames, ignore_index=True)


def _misclassified(cell: Cell) -> pd.DataFrame:
    wrong = cell.predictions[cell.predictions["label"] != cell.predictions["predicted"]].sort_values("row")
    names = cell.receipt.classes
    table = pd.DataFrame(
        {
            "dataset": cell.dataset,
            "model": cell.model,
            "row": wrong["row"],
            "file": wrong["file"],
            "label": [names[label] for label in wrong["label"]],
            "predicted": [names[label] for label in wrong["predicted"]],
            "probability_predicted": [_probability(row, names[row["predicted"]]) for _, row in wrong.iterrows()],
            "probability_label": [_probability(row, names[row["label"]]) for _, row in wrong.iterrows()],
        }
    )
    table["explained"] = table["row"].isin(cell.heatmaps.rows["true"])
    return table.merge(_aucs_by_image(cell), on="row", how="left")


def _probability(prediction: pd.Series, name: str) -> float:
    return float(prediction[f"p_{name}"])


def _aucs_by_image(cell: Cell) -> pd.DataFrame:
    """Columns `<method>_<rule>_<curve>_auc`, one row for each image explained for its true class too."""
    scores = cell.scores[
        cell.scores["row"].isin(cell.heatmaps.rows["true"]) & cell.scores["method"].isin(cell.explanation.methods)
    ]
    wide = scores.pivot_table(index="row", columns=["method", "target_rule", "curve"], values="auc")
    wide.columns = ["_".join([*key, "auc"]) for key in wide.columns]
    return wide.reset_index()
