"""Registered versions made by hand: every answer and every image's score is what the test says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.params import PromotionParams
from pipeline.promotion.judging import Policy
from pipeline.promotion.registered import Registered, VersionFacts
from pipeline.report.cells import Cell, load_cell
from tests.report.made_study import CLASSES, make_study

NAME = "busi-classifier"
Lines = Mapping[str, Mapping[str, Sequence[float]]]  # method or baseline -> measure -> value of each image


def made_cell(folder: Path) -> Cell:
    """busi-vit; what its records say counts, its images do not."""
    make_study(folder, ("busi",), ("vit",), images=24)
    return load_cell(folder, "busi", "vit")


def made_answers(labels: str, predicted: str) -> pd.DataFrame:
    """`n b m` for each image; the class predicted gets the probability 0.6 + 0.01 x row, the others share the rest."""
    names = {name[0]: name for name in CLASSES["busi"]}
    table = pd.DataFrame({"row": range(len(labels)), "file": "", "label": list(labels), "predicted": list(predicted)})
    table = table.assign(label=table["label"].map(names), predicted=table["predicted"].map(names))
    sure = 0.6 + 0.01 * table["row"]
    for name in CLASSES["busi"]:
        table[f"p_{name}"] = np.where(table["predicted"] == name, sure, (1 - sure) / 2)
    return table.assign(correct=table["label"] == table["predicted"], burnt_in_marks="plain")


def made_evidence(lines: Lines, wrong: Sequence[int] = ()) -> pd.DataFrame:
    """Images 0, 1, ... are all benign; those in `wrong` were taken for malignant."""
    parts = []
    for method, measures in lines.items():
        rows = np.arange(len(next(iter(measures.values()))))
        parts.append(pd.DataFrame({"row": rows, "method": method, **measures, "correct": ~np.isin(rows, wrong)}))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(target_rule="predicted", label="benign", size=np.where(table["row"] % 2, "large", "small"))


def made_version(
    cell: Cell,
    number: str,
    answers: pd.DataFrame | None = None,
    evidence: pd.DataFrame | None = None,
    **facts: str | bool,
) -> Registered:
    """By default it is never wrong, and its Grad-CAM always gains 0.5."""
    known = VersionFacts(NAME, number, "vit", f"checkpoint {number}", "data", "split", f"evidence {number}", False)
    answers = made_answers("nbm" * 4, "nbm" * 4) if answers is None else answers
    evidence = made_evidence({"gradcam": {"insertion_gain": [0.5] * 12}}) if evidence is None else evidence
    return Registered(replace(known, **facts), cell, evidence, answers)


def made_policy(*conditions: Mapping[str, object], ranking: Sequence[str] = ("test/accuracy",)) -> Policy:
    section = {"min_images": 2, "resamples": 200, "conditions": conditions, "ranking": ranking}
    return Policy("busi", PromotionParams.model_validate(section), seed=0)
