"""Synthetic blood cells."""

import numpy as np
import pytest

from pipeline.data.phantom.cells import (
    CLASSES,
    CYTOPLASM,
    EVIDENCE,
    GRANULE,
    NUCLEUS,
    RED_CELL,
    SECOND_WHITE,
    STRAY_PLATELET,
    TRAITS,
    WHITE,
    draw_cell,
    individual,
)
from pipeline.data.phantom.shapes import TAG, Picture
from pipeline.params import CellPhantomParams

PARAMS = CellPhantomParams(
    images_per_class=6,
    width_px=120,
    near_copy_fraction=0.0,
    label_conflicts=0,
    confuse=0.4,
    shortcut_fraction=0.0,
    second_batch_fraction=0.0,
)


def draw(class_name: str, index: int, **changes: float) -> Picture:
    params = PARAMS.model_copy(update=changes)
    return draw_cell(class_name, np.random.default_rng(index), params.width_px, params)


@pytest.mark.parametrize("class_name", CLASSES)
def test_evidence_is_central_and_darker_than_the_background(class_name: str) -> None:
    for index in range(4):
        picture = draw(class_name, index)
        evidence = (picture.labels & EVIDENCE) > 0
        assert evidence[55:66, 55:66].mean() > 0.4
        assert picture.image[evidence].mean() + 20 < picture.image[picture.labels == 0].mean()


def test_only_platelets_have_no_nucleus() -> None:
    without = {name for name in CLASSES if not (draw(name, 0).labels & NUCLEUS).any()}
    assert without == {"platelet"}


def test_only_four_classes_show_granules_that_fill_pixels() -> None:
    counts = {name: int(((draw(name, 0, width_px=360).labels & GRANULE) > 0).sum()) for name in CLASSES}
    assert counts["lymphocyte"] == counts["erythroblast"] == 0
    assert min(counts["basophil"], counts["eosinophil"]) > 1000


def test_the_nucleus_is_darker_than_the_cytoplasm() -> None:
    for name in set(CLASSES) - {"basophil", "platelet"}:
        picture = draw(name, 1)
        assert picture.image[picture.labels == NUCLEUS].mean() < picture.image[picture.labels == CYTOPLASM].mean()


def test_things_beside_the_cell_are_marked_and_no_evidence() -> None:
    labels = np.stack([draw("monocyte", index).labels for index in range(8)])
    assert (labels == RED_CELL).mean() > 0.1
    assert (labels == STRAY_PLATELET).any()
    assert not (labels[labels & EVIDENCE > 0] & (RED_CELL | STRAY_PLATELET)).any()


def test_height_follows_the_real_aspect() -> None:
    assert draw("ig", 0, width_px=360).image.shape == (363, 360, 3)
    assert draw("ig", 0).image.shape == (121, 120, 3)


def test_a_cell_is_the_same_at_any_width() -> None:
    large, small = draw("neutrophil", 2, width_px=360), draw("neutrophil", 2)
    evidence = [((picture.labels & EVIDENCE) > 0).mean() for picture in (large, small)]
    assert evidence[0] == pytest.approx(evidence[1], rel=0.03)
    assert large.variant == small.variant


def test_the_second_batch_has_another_white_and_other_names() -> None:
    for index in range(3):
        first, second = (draw("ig", index, second_batch_fraction=share) for share in (0.0, 1.0))
        assert first.variant in {"MY", "MMY", "PMY"}
        assert second.variant == "IG"
        empty = (first.labels == 0) & (second.labels == 0)
        ratio = second.image[empty].mean(axis=0) / first.image[empty].mean(axis=0)
        np.testing.assert_allclose(ratio, SECOND_WHITE / WHITE, rtol=0.02)


def test_platelets_are_never_of_the_second_batch() -> None:
    one, other = (draw("platelet", 0, second_batch_fraction=share) for share in (0.0, 1.0))
    np.testing.assert_array_equal(one.image, other.image)


def test_a_tag_changes_nothing_else_and_differs_between_classes() -> None:
    plain, tagged = draw("ig", 0), draw("ig", 0, shortcut_fraction=1.0)
    tag = (tagged.labels & TAG) > 0
    assert tag.any()
    np.testing.assert_array_equal(plain.image[~tag], tagged.image[~tag])
    colours = {tuple(image[tag].mean(axis=0)) for image in (draw(n, 0, shortcut_fraction=1.0).image for n in CLASSES)}
    assert len(colours) == len(CLASSES)


def test_confusion_moves_a_class_towards_its_look_alike() -> None:
    def mean_ratio(confuse: float) -> float:
        rng = np.random.default_rng(0)
        return float(np.mean([individual("erythroblast", rng, confuse).ratio for _ in range(200)]))

    assert mean_ratio(0.0) == pytest.approx(TRAITS["erythroblast"].ratio, abs=0.01)
    assert TRAITS["erythroblast"].ratio + 0.03 < mean_ratio(0.4) < TRAITS["lymphocyte"].ratio
