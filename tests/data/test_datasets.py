"""The registry: every set says all that the study needs of it."""

import pytest

from pipeline.data import DATASETS, get
from pipeline.data.phantom.archive import SETS
from pipeline.errors import StudyError


@pytest.mark.parametrize("name", DATASETS)
def test_a_set_is_complete(name: str) -> None:
    spec = get(name)
    assert spec.name == name
    assert spec.classes == tuple(sorted(spec.classes))
    assert set(spec.without_evidence) <= set(spec.classes)
    assert "doi:10." in spec.citation
    assert spec.source_url.startswith("https://")
    assert all((spec.title, spec.licence, spec.evidence, spec.doi))


@pytest.mark.parametrize("name", DATASETS)
def test_a_phantom_has_the_classes_of_its_set(name: str) -> None:
    assert set(SETS[name].classes) == set(get(name).classes)


def test_an_unknown_set_is_refused_with_those_known() -> None:
    with pytest.raises(StudyError, match="dataset xray: unknown; choose from pbc, busi"):
        get("xray")
