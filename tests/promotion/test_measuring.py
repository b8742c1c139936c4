"""A condition's metric is measured on its slice, against the right baseline and with the right sign."""

from dataclasses import replace

import pandas as pd
import pytest

from pipeline.errors import StudyError
from pipeline.params.promotion import Quantity
from pipeline.promotion.measurement import NOTHING, Resampling
from pipeline.promotion.measuring import measured
from tests.promotion.worlds import made_answers, made_evidence, made_version

DRAWS = Resampling(0, 200)


def value(version, metric, **rest):
    return measured(version, Quantity(metric=metric, **rest), DRAWS).value


def test_a_slice_of_a_class_or_a_trait_is_those_images_only(cell):
    answers = made_answers("nnbbmm", "nnbmmb").assign(burnt_in_marks=["plain", "marked"] * 3)
    version = made_version(cell, "1", answers)
    assert value(version, "test/accuracy", slice="class=malignant") == 0.5
    assert value(version, "test/accuracy", slice="burnt_in_marks=marked") == pytest.approx(1 / 3)
    assert value(version, "test/accuracy", slice="burnt_in_marks=other") is None


def test_heatmaps_are_sliced_by_answer_size_and_class(cell):
    lines = made_evidence({"gradcam": {"deletion_gain": [0.1, 0.2, 0.3, 0.4]}}, wrong=(0, 3))
    version = made_version(cell, "1", evidence=lines)
    assert value(version, "gradcam/deletion_gain") == pytest.approx(0.25)
    assert value(version, "gradcam/deletion_gain", slice="misclassified") == pytest.approx(0.25)
    assert value(version, "gradcam/deletion_gain", slice="correct") == pytest.approx(0.25)
    assert value(version, "gradcam/deletion_gain", slice="size=large") == pytest.approx(0.3)
    assert value(version, "gradcam/deletion_gain", slice="class=benign") == pytest.approx(0.25)
    assert value(version, "gradcam/deletion_gain", slice="class=malignant") is None


def test_maps_of_the_true_class_do_not_count(cell):
    lines = made_evidence({"gradcam": {"deletion_gain": [0.1, 0.3]}})
    other = lines.assign(target_rule="true", deletion_gain=9.0)
    version = made_version(cell, "1", evidence=pd.concat([lines, other], ignore_index=True))
    assert value(version, "gradcam/deletion_gain") == pytest.approx(0.2)


def test_less_is_better_in_deletion_and_the_other_way_round_with_the_least_relevant_first(cell):
    curves = {"insertion_auc": [0.8, 0.8], "deletion_auc": [0.2, 0.2]}
    lines = made_evidence({"gradcam": curves, "edge": {name: [0.5, 0.5] for name in curves}})
    version = made_version(cell, "1", evidence=lines)
    turned = replace(cell, summary=cell.summary.model_copy(update={"order": "least_relevant_first"}))
    for metric in ("gradcam/insertion_auc", "gradcam/deletion_auc"):
        assert value(version, metric, better_than="edge") == pytest.approx(0.3)
        assert value(replace(version, cell=turned), metric, better_than="edge") == pytest.approx(-0.3)


def test_random_means_the_random_map_on_the_methods_own_grid(cell):
    grids = {**cell.explanation.grids, "gradcam": (8, 8)}
    finer = replace(cell, explanation=cell.explanation.model_copy(update={"grids": grids}))
    maps = {"gradcam": 0.9, "random": 0.1, "random_8x8": 0.4}
    lines = made_evidence({name: {"insertion_auc": [auc, auc]} for name, auc in maps.items()})
    assert value(made_version(finer, "1", evidence=lines), "gradcam/insertion_auc", better_than="random") == 0.5


def test_a_method_that_was_not_explained_measures_nothing(cell):
    assert measured(made_version(cell, "1"), Quantity(metric="rise/insertion_gain"), DRAWS) == NOTHING


@pytest.mark.parametrize(
    ("slice_", "words"),
    [
        ("colour=red", "busi has no such column; choose from class, size, burnt_in_marks"),
        ("class=benig", "busi has no such class; choose from normal, benign, malignant"),
    ],
)
def test_a_slice_that_the_dataset_does_not_have_is_refused(cell, slice_, words):
    with pytest.raises(StudyError, match=f"slice {slice_} of test/accuracy: {words}"):
        value(made_version(cell, "1"), "test/accuracy", slice=slice_)


def test_draws_do_not_depend_on_what_was_measured_before(cell):
    quantity = Quantity(metric="test/macro_f1")
    version = made_version(cell, "1", made_answers("nnbbmm", "nnbmmb"))
    alone = measured(version, quantity, DRAWS)
    value(version, "test/macro_auroc")
    assert measured(version, quantity, DRAWS) == alone
