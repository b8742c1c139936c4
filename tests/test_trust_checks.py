"""The trust checks of a cell: complete, for every method and image, equal on a rerun, and the model left as it was."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pipeline.files import sha256_of
from pipeline.records import Explanation, Trust
from pipeline.trust_checks import check_cell
from tests.metrics.test_scoring import STUDY, Cell, scored  # noqa: F401  (a fixture)

METHODS = ("gradcam", "gradient_rollout")
STAGES = ("head", "layers.1.blocks.0", "layers.0.blocks.0", "embedding")


def check(cell: Cell, into: str, num_images: int = 5, progress: Callable[[int, int], None] = lambda done, total: None):
    folders = [cell.folder / name for name in ("prepared", "model", "heatmaps", into)]
    folders[3].mkdir(exist_ok=True)
    return check_cell(*folders, num_images, 2, STUDY, progress)


@pytest.fixture(scope="module")
def trust(scored: Cell) -> Trust:  # noqa: F811
    return check(scored, "trust")


def test_every_method_is_put_to_every_check(scored: Cell, trust: Trust):  # noqa: F811
    table = pd.read_csv(scored.folder / "trust" / "trust.csv")
    assert set(table["method"]) == set(METHODS)
    assert {f"randomised/{stage}" for stage in STAGES} <= set(table["check"])
    assert {"gini", "entropy", "border_mass", "class_similarity", "flip_similarity", "noise_similarity"} <= set(
        table["check"]
    )
    assert (table.groupby(["method", "check"])["row"].nunique() == 5).all()
    assert trust.checkpoint_sha256 == Explanation.read(scored.folder / "heatmaps").checkpoint_sha256


def test_means_are_those_of_the_table_and_undefined_values_are_counted(scored: Cell, trust: Trust):  # noqa: F811
    table = pd.read_csv(scored.folder / "trust" / "trust.csv")
    for (method, name), values in table.groupby(["method", "check"])["value"]:
        assert trust.undefined[method].get(name, 0) == values.isna().sum()
        if values.notna().any():
            assert trust.metrics[method][name] == pytest.approx(values.mean(), abs=1e-6)


def test_a_rerun_gives_the_same_bytes_and_leaves_the_checkpoint_alone(scored: Cell, trust: Trust):  # noqa: F811
    before = sha256_of(scored.folder / "model" / "model.safetensors")
    assert check(scored, "again") == trust
    assert (scored.folder / "again" / "trust.csv").read_bytes() == (scored.folder / "trust" / "trust.csv").read_bytes()
    assert sha256_of(scored.folder / "model" / "model.safetensors") == before


def test_a_set_without_masks_to_search_in_has_no_shortcut_and_an_empty_table(scored: Cell, trust: Trust):  # noqa: F811
    assert trust.shortcut is None  # its masks are those of test images alone
    table = pd.read_csv(scored.folder / "trust" / "shortcut.csv")
    assert table.empty
    assert [name for name in table.columns if "pointing" in name] == [
        f"{method}/{hit}" for method in METHODS for hit in ("pointing_hit", "pointing_hit_neutral")
    ]


def test_a_record_from_before_shortcuts_were_sought_still_loads(trust: Trust, tmp_path: Path):
    trust.write(tmp_path)
    held = json.loads((tmp_path / "trust.json").read_text())
    del held["shortcut"]
    (tmp_path / "trust.json").write_text(json.dumps(held))
    assert Trust.read(tmp_path) == trust


def test_progress_reaches_the_end_and_no_image_is_looked_at_twice(scored: Cell):  # noqa: F811
    told: list[tuple[int, int]] = []
    found = check(scored, "all", num_images=1000, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (5, 5)
    assert found.images == Explanation.read(scored.folder / "heatmaps").images
