"""Who is better, and how sure is it: methods and models in pairs, models together, rulers against each other, seeds.

All from the table of `evidence`; of a cell fine-tuned with several seeds, an image counts with the mean over them.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.records import ORACLE, ProtocolScores
from pipeline.report.cells import Cell
from pipeline.report.evidence import CELL
from pipeline.statistics import friedman, holm, paired_tests, rank_agreement, seed_arm, two_level_interval

MEASURES = ("insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")
TRIVIAL = ("centre", "edge")  # maps that know nothing of the model, which a method should beat
PAIR = ["dataset", "within", "measure", "one", "other"]


def method_pairs(evidence: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """Each model's methods against each other and against the trivial maps, image by image, with all of `paired_tests`.

    `p_holm` is Wilcoxon's p corrected over all pairs of a dataset and measure.
    """
    return _pairs(evidence, "model", "method", seed, resamples)


def model_pairs(evidence: pd.DataFrame, seed: int, resamples: int) -> pd.DataFrame:
    """Each method's gains and hits on one model against those on another, image by image; as `method_pairs`."""
    return _pairs(evidence[evidence["is_method"]], "method", "model", seed, resamples)


def model_ranks(evidence: pd.DataFrame) -> pd.DataFrame:
    """Friedman's test of each method and measure over all models, and the model with the best mean rank."""
    rows = []
    for (dataset, method, measure), table in _wide(evidence[evidence["is_method"]], "method", "model"):
        complete = table.dropna()
        if complete.empty:
            continue
        chi_squared, p, agreement = friedman(complete.to_numpy(float))
        ranks = complete.rank(axis=1, ascending=False).mean()
        rows.append(
            {"dataset": dataset, "method": method, "measure": measure, "images": len(complete), "models": len(ranks)}
            | {"chi_squared": chi_squared, "p": p, "kendall_w": agreement}
            | {"best": ranks.idxmin(), "best_rank": ranks.min()}
        )
    columns = ["dataset", "method", "measure", "images", "models", "chi_squared", "p", "kendall_w", "best", "best_rank"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(p_holm=table.groupby("dataset")["p"].transform(lambda p: holm(p.to_numpy(float))))


def ruler_agreement(cells: Sequence[Cell]) -> pd.DataFrame:
    """Kendall's tau of how two rulers rank a model's methods and baselines: curves by substrate, and the masks.

    The mask as a map is left out, as some rulers know it.
    """
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "one": one, "other": other, "maps": len(shared)}
        | {"tau": rank_agreement(shared[one].to_numpy(), shared[other].to_numpy())}
        for cell in cells
        for rulers in [_rulers(cell)]
        for one, other in combinations(rulers, 2)
        for shared in [rulers[[one, other]].dropna()]
        if len(shared) > 2
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "one", "other", "maps", "tau"])


def seed_table(evidence: pd.DataFrame, repeats: Sequence[Sequence[Cell]], seed: int, resamples: int) -> pd.DataFrame:
    """Means over several fine-tuning seeds with intervals for seeds and images; empty where there is only one seed.

    Args:
        repeats: the cells of each seed, for the test accuracy, which has an interval over seeds alone.
    """
    columns = [
        "dataset",
        "model",
        "method",
        "measure",
        "seeds",
        "images",
        "mean",
        "mean_low",
        "mean_high",
        "sd_of_seeds",
    ]
    rows = [*_accuracy_by_seed(repeats), *_measures_by_seed(evidence, seed, resamples)] if len(repeats) > 1 else []
    return pd.DataFrame(rows, columns=columns)


def predicted_only(evidence: pd.DataFrame) -> pd.DataFrame:
    return evidence[evidence["target_rule"] == "predicted"]


def _pairs(evidence: pd.DataFrame, within: str, between: str, seed: int, resamples: int) -> pd.DataFrame:
    parts = []
    for (dataset, name, measure), table in _wide(evidence, within, between):
        pairs = [pair for pair in combinations(table.columns, 2) if not set(pair) <= set(TRIVIAL)]
        differences = pd.DataFrame({pair: table[pair[0]] - table[pair[1]] for pair in pairs}, index=table.index)
        found = paired_tests(differences, seed, resamples).dropna(how="all")
        keys = [(dataset, name, measure, *pair) for pair in found.index]
        parts.append(pd.DataFrame(keys, columns=PAIR).join(found.reset_index(drop=True)))
    if not (parts := [part for part in parts if len(part)]):
        return pd.DataFrame(columns=PAIR)
    table = pd.concat(parts, ignore_index=True)
    family = table.groupby(["dataset", "measure"])["p_wilcoxon"]
    return table.assign(p_holm=family.transform(lambda p: holm(p.to_numpy(float))))


def _wide(evidence: pd.DataFrame, within: str, between: str) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """For each dataset, `within` and measure: images down, `between` across, in the study's order."""
    lines = predicted_only(evidence)
    lines = lines[lines["is_method"] | lines["method"].isin(TRIVIAL)]
    for (dataset, name), part in lines.groupby(["dataset", within], sort=False):
        for measure in MEASURES:
            table = part.pivot_table(index="row", columns=between, values=measure, dropna=False, observed=True)
            order = [each for each in part[between].unique() if each in table and table[each].notna().any()]
            yield (str(dataset), str(name), measure), table[order]


def _rulers(cell: Cell) -> pd.DataFrame:
    """Methods and baselines down, rulers across, signed so that higher is better."""
    columns = _curve_rulers(cell.summary, "")
    for name, protocol in cell.summary.variants.items():
        columns |= _curve_rulers(protocol, f" ({name})")
    for measure in ("pointing_game", "mass_ratio"):
        found = {name: values[measure] for name, values in cell.summary.metrics.items() if measure in values}
        columns |= {measure: pd.Series(found)} if found else {}
    return pd.DataFrame(columns).drop(index=ORACLE, errors="ignore")


def _curve_rulers(protocol: ProtocolScores, variant: str) -> dict[str, pd.Series]:
    better = 1 if protocol.order == "most_relevant_first" else -1
    insertion = {name: better * values["insertion_auc"] for name, values in protocol.metrics.items()}
    deletion = {name: -better * values["deletion_auc"] for name, values in protocol.metrics.items()}
    return {
        f"insertion from {protocol.insertion_substrate}{variant}": pd.Series(insertion),
        f"deletion to {protocol.deletion_substrate}{variant}": pd.Series(deletion),
    }


def _accuracy_by_seed(repeats: Sequence[Sequence[Cell]]) -> Iterator[dict]:
    for cells in zip(*repeats, strict=True):
        values = np.array([cell.classification.test["balanced_accuracy"] for cell in cells])
        arm = seed_arm(values)
        yield {
            "dataset": cells[0].dataset, "model": cells[0].model, "method": "", "measure": "balanced_accuracy",
            "seeds": len(values), "images": cells[0].classification.images, "mean": values.mean(),
            "mean_low": values.mean() - arm, "mean_high": values.mean() + arm, "sd_of_seeds": values.std(ddof=1),
        }  # fmt: skip


def _measures_by_seed(evidence: pd.DataFrame, seed: int, resamples: int) -> Iterator[dict]:
    lines = predicted_only(evidence[evidence["is_method"]])
    for (dataset, model, method), part in lines.groupby(["dataset", "model", "method"], sort=False):
        for measure in MEASURES:
            table = part.pivot(index="row", columns=CELL[2], values=measure).dropna()
            if table.empty:
                continue
            values = table.to_numpy(float).T
            mean, low, high = two_level_interval(values, seed, resamples, share=measure == "pointing_game")
            yield {
                "dataset": dataset, "model": model, "method": method, "measure": measure, "seeds": len(values),
                "images": len(table), "mean": mean, "mean_low": low, "mean_high": high,
                "sd_of_seeds": values.mean(axis=1).std(ddof=1),
            }  # fmt: skip
