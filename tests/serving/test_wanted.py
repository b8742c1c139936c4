"""The params of a request: their defaults, and one line that lists the choices for what is none of them."""

import pytest

from pipeline.serving.refusals import Refusal
from pipeline.serving.wanted import Wanted, read_wanted

METHODS, CLASSES = ("gradcam", "rise"), ("benign", "malignant")


def test_nothing_asked_is_a_prediction_without_more():
    assert read_wanted(None, METHODS, CLASSES) == Wanted("gradcam", None, 0, False)


@pytest.mark.parametrize(("target", "read"), [("", None), ("predicted", None), ("malignant", "malignant")])
def test_a_target_is_the_class_predicted_or_a_name(target, read):
    assert read_wanted({"target": target}, METHODS, CLASSES).target == read


@pytest.mark.parametrize(
    ("param", "value", "choices"),
    [
        ("method", "lime", "gradcam, rise"),
        ("method", None, "gradcam, rise"),
        ("target", "normal", "predicted, benign, malignant"),
        ("top_k", -1, "0, 1, 2"),
        ("top_k", 3, "0, 1, 2"),
    ],
)
def test_what_is_none_of_the_choices_is_refused_with_them(param, value, choices):
    with pytest.raises(Refusal, match=f"^{param}: {value!r} is none of its values; choose from {choices}$"):
        read_wanted({param: value}, METHODS, CLASSES)
