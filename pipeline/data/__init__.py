"""The image sets of the study, and the way from a raw archive to arrays with a leak-free split.

A set that others have too is one file like `sets/busi.py` and one line in `DATASETS`; a user's own needs no code, only
an entry in params.yaml (`sets/own.py`).
"""

from dataclasses import replace

from pipeline.data.sets.busi import BUSI
from pipeline.data.sets.own import OWN_KEYS, OWN_KINDS, layout_of, own_set
from pipeline.data.sets.pbc import PBC
from pipeline.errors import StudyError
from pipeline.params import DatasetParams
from pipeline.spec import DatasetSpec

DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in (PBC, BUSI)}


def get(kind: str) -> DatasetSpec:
    """The known set of that kind.

    Raises:
        StudyError: there is none.
    """
    if kind not in DATASETS:
        raise StudyError(f"dataset {kind}: unknown; choose from {', '.join(DATASETS)}")
    return DATASETS[kind]


def spec_of(name: str, params: DatasetParams) -> DatasetSpec:
    """The set that an entry of params.yaml's `datasets` describes; an own set may not know its classes yet.

    Raises:
        StudyError: its kind is unknown, or a key does not go with its kind.
    """
    kind = params.kind or name
    if kind in OWN_KINDS:
        return own_set(name, params)
    if kind not in DATASETS:
        raise StudyError(f"datasets.{name}.kind: {kind} is unknown; choose from {', '.join((*DATASETS, *OWN_KINDS))}")
    if surplus := [key for key in OWN_KEYS if key in params.model_fields_set]:
        raise StudyError(f"datasets.{name}.{surplus[0]}: {kind} has its own; remove the key, or give kind: folder")
    return replace(get(kind), name=name, layout=layout_of(name, params))
