"""A dataset's comparisons as the page's templates take them: rows by part, agreement by pair of rulers."""

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from pipeline.report.comparisons import TRIVIAL

Row = dict[Hashable, Any]  # a line of a table by column


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as dictionaries, with None for what is missing."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def statistics_view(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Methods in pairs, methods against trivial maps, models in pairs, ranks, agreement of rulers, seeds."""
    pairs = tables["methods_compared"]
    trivial = pairs["one"].isin(TRIVIAL) | pairs["other"].isin(TRIVIAL)
    agreement: dict[tuple[str, str], dict[str, float]] = {}
    for row in records(tables["ruler_agreement"]):
        agreement.setdefault((row["one"], row["other"]), {})[row["model"]] = row["tau"]
    return {
        "methods": records(pairs[~trivial]),
        "trivial": records(pairs[trivial]),
        "models": records(tables["models_compared"]),
        "ranks": records(tables["models_ranked"]),
        "agreement": agreement,
        "seeds": records(tables["seeds"]),
    }
