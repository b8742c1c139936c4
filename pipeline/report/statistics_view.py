"""A dataset's comparisons as the page's templates take them: rows by part, agreement by pair of rulers."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.records import SWAPPED
from pipeline.report.comparisons import TRIVIAL

Row = dict[Hashable, Any]  # a line of a table by column


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries, with None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def grouped(table: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the values of some columns, groups in the order in which they first stand in the table."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in records(table):
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


def outdone(heatmaps: pd.DataFrame) -> dict[str, list[str]]:
    """Maps that know nothing of the model, or of the image, with the models whose every method they outdo."""
    gains = heatmaps.pivot(index="model", columns="method", values="insertion_gain").astype(float)
    methods = heatmaps.loc[heatmaps["kind"] == "method", "method"].unique()
    best, models = gains[methods].max(axis=1), heatmaps["model"].unique()
    ahead = {str(name): column > best for name, column in gains.items()}
    found = {
        name: [str(model) for model in models if wins[model]]
        for name, wins in ahead.items()
        if name in TRIVIAL or name.startswith(SWAPPED)
    }
    return {name: held for name, held in found.items() if held}


def strata_view(table: pd.DataFrame) -> dict[str, dict[tuple[str, ...], list[Row]]]:
    """Stratum -> (model, method) -> a row for each level."""
    parts = table.groupby("stratum", sort=False)
    return {str(stratum): grouped(part, ("model", "method")) for stratum, part in parts}


def statistics_view(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Methods in pairs, methods against trivial maps, models in pairs, ranks, agreement of rulers, seeds."""
    pairs = tables["methods_compared"]
    trivial = pairs["one"].isin(TRIVIAL) | pairs["other"].isin(TRIVIAL)
    agreement: dict[tuple[str, str], dict[str, float]] = {}
    for row in records(tables["ruler_agreement"]):
        agreement.setdefault((row["one"], row["other"]), {})[row["model"]] = row["tau"]
    return {
        "methods": grouped(pairs[~trivial], ("one", "other")),
        "trivial": grouped(pairs[trivial], ("one", "other")),
        "models": grouped(tables["models_compared"], ("one", "other")),
        "ranks": records(tables["models_ranked"]),
        "agreement": agreement,
        "seeds": records(tables["seeds"]),
    }
