"""The image sets of the study, and the way from a raw archive to arrays with a leak-free split.

A new set is one file like `busi.py` and one line in `DATASETS`.
"""

from pipeline.data.busi import BUSI
from pipeline.data.pbc import PBC
from pipeline.data.spec import DatasetSpec
from pipeline.errors import StudyError

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (PBC, BUSI)}


def get(name: str) -> DatasetSpec:
    """The set of that name.

    Raises:
        StudyError: there is none.
    """
    if name not in DATASETS:
        raise StudyError(f"dataset {name}: unknown; choose from {', '.join(DATASETS)}")
    return DATASETS[name]
