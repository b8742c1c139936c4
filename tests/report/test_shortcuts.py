"""A planted shortcut is found and said in words; without one, nothing is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.records import Shortcut
from pipeline.report.cells import Cell, load_cell, load_cells
from pipeline.report.shortcuts import place_of, shortcut_answer, shortcut_answers, shortcut_finding, shortcut_table
from tests.report.made_study import RULES_OF_FINDINGS, Study
from tests.shortcut_world import DATASET, MODEL, world

RULE = RULES_OF_FINDINGS.S1


def checked(cell: Cell, images: int, followed: int, lost: int) -> Cell:
    """The cell with a check of so many images: answers that follow the place, right answers lost without it."""
    rows = np.arange(images)
    hits = {"gradcam/pointing_hit": rows < 4, "gradcam/pointing_hit_neutral": rows < 20}
    hits |= {"gradient_rollout/pointing_hit": np.nan, "gradient_rollout/pointing_hit_neutral": np.nan}
    table = pd.DataFrame({"row": rows, "label": 0, "predicted": 0, "followed": rows < followed, **hits})
    table = table.assign(followed_control=False, predicted_neutral=(rows < lost).astype(int))
    record = Shortcut(
        region_px=(0, 0, 8, 8), control_px=(0, 24, 8, 32), image_size_px=32, area=0.0625, images=images,
        followed=followed / images, followed_control=0.0, accuracy=1.0, accuracy_neutral=1 - lost / images,
        focus={"gradcam": 0.3}, localised=images, pointing_game={"gradcam": 0.1},
        pointing_game_neutral={"gradcam": 0.5},
    )  # fmt: skip
    return replace(cell, shortcut=table, trust=cell.trust.model_copy(update={"shortcut": record}))


@pytest.fixture(scope="module")
def cell(study: Study) -> Cell:
    return load_cell(study.data, "busi", "dino")


@pytest.mark.parametrize(
    ("images", "followed", "lost", "found"),
    [
        (40, 20, 0, "found"),
        (40, 0, 12, "found"),
        (300, 1, 1, "none found"),
        (40, 1, 1, "undecided"),
        (40, 4, 0, "undecided"),
        (20, 20, 20, "undecided"),
    ],
)
def test_a_shortcut_needs_its_size_its_p_and_enough_images(
    cell: Cell, images: int, followed: int, lost: int, found: str
) -> None:
    assert shortcut_answer(checked(cell, images, followed, lost), RULE, 0, 500).found == found


def test_a_found_shortcut_is_said_with_its_place_and_the_drop_in_pointing_game(cell: Cell) -> None:
    sentence = shortcut_answer(checked(cell, 40, 20, 30), RULE, 0, 500).sentence
    assert (
        "dino on busi answers by something beside the outlined evidence, at the top left of the image (6% of it)"
        in sentence
    )
    assert "50% of its answers follow them (0% at a control)" in sentence
    assert "accuracy goes from 1.00 to 0.25" in sentence
    assert "Grad-CAM 0.10 with it and 0.50 without on 40 images, a drop of 0.40" in sentence


def test_a_dataset_without_masks_is_not_judged(study: Study) -> None:
    cells = load_cells(study.data, ["pbc"], study.models)
    answers = shortcut_answers(cells, RULE, 0, 500)
    assert {answer.found for answer in answers} == {"not measured"}
    assert shortcut_finding(answers, RULE).verdict == "undecided"
    assert shortcut_table(cells, answers).empty


def test_one_model_that_takes_a_shortcut_refuses_the_claim(cell: Cell) -> None:
    cells = [checked(cell, 300, 0, 0), checked(cell, 40, 30, 0)]
    found = shortcut_finding(shortcut_answers(cells, RULE, 0, 500), RULE)
    assert found.verdict == "not supported"
    assert "dino on busi" in found.would_change
    assert shortcut_finding(shortcut_answers(cells[:1], RULE, 0, 500), RULE).verdict == "supported"


@pytest.mark.parametrize(
    ("region", "place"),
    [
        ((0, 0, 8, 8), "top left"),
        ((24, 24, 32, 32), "bottom right"),
        ((12, 12, 20, 20), "centre"),
        ((12, 0, 20, 8), "middle left"),
    ],
)
def test_a_place_is_named(cell: Cell, region: tuple[int, int, int, int], place: str) -> None:
    record = checked(cell, 4, 0, 0).trust.shortcut
    assert record is not None
    assert place_of(record.model_copy(update={"region_px": region})) == place


@pytest.mark.slow
@pytest.mark.parametrize(("tagged", "said"), [(1.0, True), (0.0, False)])
def test_a_study_of_tagged_phantoms_says_so_and_one_without_tags_does_not(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, tagged: float, said: bool
) -> None:
    """From images to words: phantoms are drawn, learned, explained, scored and reported as in any study."""
    data = world(tmp_path_factory, tagged)
    page = Study(data, (DATASET,), (MODEL,)).write_report(tmp_path / "report").read_text(encoding="utf-8")
    sentence = f"{MODEL} on {DATASET} answers by something beside the outlined evidence, at the top left"
    assert (sentence in page) == said
    assert ("Pointing game: Gra" in page) == said
    findings = pd.read_json(tmp_path / "report" / "findings.json").set_index("id")["verdict"]
    assert (findings["S1"] == "not supported") == said
