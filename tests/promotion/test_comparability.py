"""Versions are compared with those that the study's files hold; what was measured otherwise is left out, and why."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.promotion.comparability import comparable
from pipeline.promotion.registered import Unusable
from tests.promotion.worlds import made_version

GONE = "its weights are gone"


def compared(*versions):
    """Numbers of those that can be compared, and the reasons of the others."""
    same, left_out = comparable(versions)
    return [each.version.number for each in same], {each.version: each.reason for each in left_out}


def scored_otherwise(cell, **changes):
    return replace(cell, summary=cell.summary.model_copy(update=changes))


@pytest.mark.parametrize("fact", ["split_sha256", "data_sha256"])
def test_a_version_tested_on_other_images_is_left_out(cell, fact):
    numbers, reasons = compared(made_version(cell, "1", **{fact: "other"}), made_version(cell, "2"))
    assert numbers == ["2"]
    assert reasons["1"].startswith("tested on other images than version 2, the newest that can be judged; ")


def test_the_reference_is_what_the_studys_files_hold_and_not_the_newest_number(cell):
    """As an old commit leaves it that was published into a store made again."""
    old = made_version(cell, "3", split_sha256="old")
    numbers, reasons = compared(made_version(cell, "1", is_current=True), made_version(cell, "2", is_current=True), old)
    assert numbers == ["1", "2"]
    assert reasons["3"].startswith("tested on other images than version 2, which the study's files hold now; ")


def test_a_newest_that_cannot_be_judged_is_named_where_another_takes_its_place(cell):
    other = made_version(cell, "9", split_sha256="other")
    versions = [other, made_version(cell, "10"), Unusable("2", "vit", GONE), Unusable("11", "vit", GONE)]
    numbers, reasons = compared(*versions)
    assert numbers == ["10"]
    assert "than version 10, the newest that can be judged (not 11, which cannot be); " in reasons["9"]
    assert (reasons["2"], reasons["11"]) == (GONE, GONE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 99}, "steps 99, not "),
        ({"adaptive": True}, "adaptive True, not False"),
        ({"insertion_substrate": "mean"}, "insertion_substrate mean, not blur"),
        ({"deletion_substrate": "mean"}, "deletion_substrate mean, not zero"),
        ({"unit_px": 8}, "unit_px 8, not 1"),
        ({"order": "least_relevant_first"}, "order least_relevant_first, not most_relevant_first"),
        ({"tie_rule": "random"}, "tie_rule random, not reading order"),
        ({"temperature": 1.3}, "calibrated True, not False"),
        ({"pointing_tolerance_px": 5}, "pointing_tolerance_px 5, not 0"),
        ({"steps": 99, "unit_px": 8}, ", unit_px 8, not 1"),
    ],
)
def test_a_version_scored_by_another_protocol_is_left_out(cell, changes, words):
    other = made_version(scored_otherwise(cell, **changes), "1")
    numbers, reasons = compared(other, made_version(cell, "2", is_current=True))
    assert numbers == ["2"]
    assert reasons["1"].startswith("scored otherwise than version 2, which the study's files hold now: ")
    assert words in reasons["1"]


def test_calibrated_models_differ_in_temperature_and_are_compared(cell):
    versions = [made_version(scored_otherwise(cell, temperature=1.1 + place), str(place)) for place in (1, 2)]
    assert compared(*versions) == (["1", "2"], {})


def test_a_version_explained_on_other_images_is_left_out(cell):
    rows = {rule: found + 1 for rule, found in cell.heatmaps.rows.items()}
    others = replace(cell, heatmaps=replace(cell.heatmaps, rows=rows))
    numbers, reasons = compared(made_version(others, "1"), made_version(cell, "2"))
    assert numbers == ["2"]
    assert reasons["1"].startswith("explained on other images than version 2")


def test_the_order_of_the_explained_images_does_not_matter(cell):
    rows = {rule: np.flip(found) for rule, found in cell.heatmaps.rows.items()}
    turned = replace(cell, heatmaps=replace(cell.heatmaps, rows=rows))
    assert compared(made_version(turned, "1"), made_version(cell, "2")) == (["1", "2"], {})


def test_where_none_can_be_judged_all_are_left_out():
    assert compared(Unusable("1", "vit", GONE)) == ([], {"1": GONE})
