"""Heatmaps as pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import StudyError
from pipeline.records import Explanation
from pipeline.report.overlays import (
    CONTACT_SHEET,
    CONTACT_SHEET_BYTES,
    PAD_PX,
    PICTURE_PX,
    colour_table,
    contrast,
    draw_cell_overlays,
    draw_heatmap,
    draw_outline,
    in_turn,
    outline,
    strength,
    upsample,
)
from tests.report.made_study import Study


def draw(study: Study, dataset: str, overlays: int) -> list[Path]:
    folders = (
        study.data / "prepared" / dataset,
        *(study.data / kind / dataset / "vit" for kind in ("models", "heatmaps")),
    )
    return draw_cell_overlays(*folders, overlays)


@pytest.mark.parametrize("flat", [0.0, -1.0, np.nan])
def test_a_map_without_a_positive_part_has_no_strength(flat: float) -> None:
    assert not strength(np.full((2, 3), flat)).any()


def test_strength_is_relative_to_the_maximum_and_drops_the_negative_part() -> None:
    assert strength(np.array([[-4.0, 0.0], [1.0, 2.0]])).tolist() == [[0, 0], [0.5, 1]]


def test_the_floor_that_all_patches_share_is_not_shown() -> None:
    assert contrast(np.array([[8.0, 8.0], [9.0, 10.0]])) == pytest.approx(np.array([[0, 0], [0.5, 1]]))
    assert contrast(np.full((2, 2), 3.0)).tolist() == [[1, 1], [1, 1]]
    assert contrast(np.array([[-1.0, 2.0]])).tolist() == [[0, 1]]


def test_a_constant_map_is_drawn_at_full_strength_everywhere() -> None:
    drawn = draw_heatmap(np.zeros((8, 8, 3), np.uint8), np.full((2, 2), 7.0), 16)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1
    assert drawn[0, 0].tolist() == (colour_table()[255] * 0.85).astype(int).tolist()


def test_a_blank_map_leaves_a_dimmed_grey_image() -> None:
    drawn = draw_heatmap(np.full((8, 8, 3), (200, 100, 0), np.uint8), np.zeros((2, 2)), 8)
    grey = int((200 * 299 + 100 * 587) / 1000 * 0.7)
    assert np.abs(drawn.astype(int) - grey).max() <= 1


def test_upsampling_equals_torchs_bilinear() -> None:
    torch = pytest.importorskip("torch")
    grid = np.random.default_rng(0).random((4, 4), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(grid)[None, None], (32, 32), mode="bilinear")
    assert np.allclose(upsample(grid, 32), expected[0, 0], atol=1e-6)


def test_the_outline_is_the_inner_border_of_the_mask() -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:6] = True
    expected = mask.copy()
    expected[3:5, 3:5] = False
    assert (outline(mask, 8) == expected).all()


def test_a_mask_of_the_whole_image_is_outlined_along_the_images_edge() -> None:
    line = outline(np.ones((8, 8), bool), 8)
    assert line[0].all()
    assert line[:, -1].all()
    assert not line[1:-1, 1:-1].any()


def test_the_outline_is_white_on_a_dark_seam_and_nothing_else_changes() -> None:
    picture, line = np.full((9, 9, 3), 90, np.uint8), np.zeros((9, 9), bool)
    line[4, 4] = True
    drawn = draw_outline(picture, line)
    assert drawn[4, 4].tolist() == [255] * 3
    assert drawn[3, 4].tolist() == [30] * 3
    assert drawn[0, 0].tolist() == [90] * 3
    assert (picture == 90).all()


def test_classes_take_turns() -> None:
    assert in_turn([1, 2, 3, 4, 5], [0, 0, 0, 1, 2]) == [1, 4, 5, 2, 3]


def test_one_picture_for_each_image_method_and_rule_with_misclassified_images_first(own_study: Study) -> None:
    with np.load(own_study.data / "heatmaps" / "busi" / "vit" / "attributions.npz") as held:
        wrong = set(held["rows_true"].tolist())
    paths = draw(own_study, "busi", overlays=len(wrong) + 1)
    first = {int(path.name.split("_")[0]) for path in paths[: 4 * len(wrong)]}
    assert first == wrong
    assert len(paths) == 4 * len(wrong) + 2
    assert all(path.is_file() for path in paths)


def test_an_overlay_shows_the_outline_of_the_lesion_on_image_and_heatmap(own_study: Study) -> None:
    masks = np.load(own_study.data / "prepared" / "busi" / "masks.npy")
    rows = {path: int(path.name.split("_")[0]) for path in draw(own_study, "busi", overlays=5)}
    path, row = next((path, row) for path, row in rows.items() if masks[row].any())
    line, drawn = outline(masks[row] > 0, PICTURE_PX), np.asarray(Image.open(path))
    panels = [
        drawn[-PICTURE_PX - PAD_PX : -PAD_PX, left:][:, :PICTURE_PX] for left in (PAD_PX, 2 * PAD_PX + PICTURE_PX)
    ]
    assert all((panel[line] == 255).all() for panel in panels)


def test_the_contact_sheet_is_small_and_there_even_without_overlays(own_study: Study) -> None:
    assert draw(own_study, "pbc", overlays=0) == []
    sheet = own_study.data / "heatmaps" / "pbc" / "vit" / "overlays" / CONTACT_SHEET
    assert sheet.stat().st_size <= CONTACT_SHEET_BYTES


def test_drawing_twice_gives_equal_bytes(own_study: Study) -> None:
    first = [path.read_bytes() for path in draw(own_study, "pbc", overlays=1)]
    assert first == [path.read_bytes() for path in draw(own_study, "pbc", overlays=1)]


def test_heatmaps_of_another_checkpoint_are_refused(own_study: Study) -> None:
    folder = own_study.data / "heatmaps" / "pbc" / "vit"
    Explanation.read(folder).model_copy(update={"checkpoint_sha256": "f" * 64}).write(folder)
    with pytest.raises(StudyError, match="dvc repro explain@pbc-vit"):
        draw(own_study, "pbc", overlays=1)
