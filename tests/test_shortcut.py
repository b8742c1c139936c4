"""A model trained on images with a planted tag and one without: the check must find the tag and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.files import sha256_of
from pipeline.metrics.trust.intervention import Box, shared_pixels
from pipeline.params import load_params
from pipeline.records import Shortcut, Trust
from tests.shortcut_world import DATASET, MODEL, check, one_cell, world

pytestmark = pytest.mark.slow

RULE = load_params().findings.S1
TAG: Box = (3, 3, 10, 10)  # of images 64 px wide: a tenth of the width, that far from the border


@pytest.fixture
def scores(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """Share of images with a tag -> the folder of the cell's scores."""
    return lambda fraction: world(tmp_path_factory, fraction) / "scores" / DATASET / MODEL


def shortcut_of(scores: Path) -> Shortcut:
    found = Trust.read(scores).shortcut
    assert found is not None
    return found


def test_a_planted_tag_is_found_and_decides(scores: Callable[[float], Path]):
    found = shortcut_of(scores(1.0))
    assert shared_pixels(found.region_px, TAG) == (TAG[2] - TAG[0]) * (TAG[3] - TAG[1])
    assert found.area <= 0.1
    assert found.followed > 0.4
    assert found.followed_control < 0.1
    assert found.accuracy - found.accuracy_neutral > 0.15


def test_without_a_tag_no_place_decides(scores: Callable[[float], Path]):
    found = shortcut_of(scores(0.0))
    assert found.followed - found.followed_control < RULE.followed
    assert found.accuracy - found.accuracy_neutral < RULE.accuracy_drop


def test_the_record_tells_the_means_of_the_table(scores: Callable[[float], Path]):
    for fraction in (0.0, 1.0):
        found, table = shortcut_of(scores(fraction)), pd.read_csv(scores(fraction) / "shortcut.csv")
        assert found.images == len(table) == table["row"].nunique()
        assert found.followed == pytest.approx(table["followed"].mean())
        assert found.followed_control == pytest.approx(table["followed_control"].mean())
        assert found.accuracy_neutral == pytest.approx((table["predicted_neutral"] == table["label"]).mean())
        assert (table["donor_class"] != table["predicted"]).all()
        for method, share in found.pointing_game.items():
            hits = table[f"{method}/pointing_hit"].dropna()
            assert len(hits) == found.localised
            assert share == pytest.approx(hits.astype(bool).mean())


def test_hits_before_are_those_of_the_localisation(scores: Callable[[float], Path]):
    table = pd.read_csv(scores(1.0) / "shortcut.csv").set_index("row")
    lines = pd.read_csv(scores(1.0) / "localisation.csv")
    for method in ("gradcam", "gradient_rollout"):
        chosen = lines[(lines["method"] == method) & (lines["target_rule"] == "predicted")].set_index("row")
        hits = table[f"{method}/pointing_hit"].dropna().astype(bool)
        np.testing.assert_array_equal(hits, chosen.loc[hits.index, "pointing_hit"])


def test_a_rerun_gives_the_same_bytes(
    scores: Callable[[float], Path], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
):
    before = scores(1.0)
    check(world(tmp_path_factory, 1.0), DATASET, MODEL, tmp_path, one_cell(1.0))
    for name in ("shortcut.csv", "trust.json"):
        assert sha256_of(tmp_path / name) == sha256_of(before / name)
