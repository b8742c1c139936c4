"""A user's own set, described by its entry in params.yaml: class folders, a table, or a MedMNIST file.

Nothing is taken for granted of it: no flip, no colour change, no trait, unless its entry says so.
"""

from pathlib import PurePath

from pipeline.data.traits import TRAITS
from pipeline.errors import StudyError
from pipeline.params import DatasetParams
from pipeline.spec import DatasetSpec, Layout

FOLDER, MEDMNIST = OWN_KINDS = ("folder", "medmnist")
MEDMNIST_TABLE = "medmnist.csv"  # which unpacking such a file writes
OWN_KEYS = (  # a public set has its own of these
    "title", "classes", "masks", "flips", "colour", "evidence", "without_evidence", "traits", "licence", "citation",
)  # fmt: skip
LICENCE = "not stated; ask whoever the images are from"


def own_set(name: str, params: DatasetParams) -> DatasetSpec:
    """The set of that name.

    Raises:
        StudyError: two of its keys contradict each other, or a trait is unknown.
    """
    _check(name, params)
    return DatasetSpec(
        name=name,
        title=params.title or name,
        classes=params.classes,
        flips=params.flips,
        colour=params.colour,
        evidence=params.evidence,
        without_evidence=params.without_evidence,
        licence=params.licence or LICENCE,
        citation=params.citation or "",
        doi="",
        source_url="",
        traits=params.traits,
        layout=layout_of(name, params),
    )


def layout_of(name: str, params: DatasetParams) -> Layout:
    """What lies where in the set.

    Raises:
        StudyError: a column is named but no table, or table and curated list are called alike.
    """
    if params.groups and not params.table:
        raise StudyError(f"datasets.{name}.groups: names a column, but there is no table; add datasets.{name}.table")
    table, curated = (PurePath(path or "").name for path in (params.table, params.curated))
    if params.kind == MEDMNIST:
        table = MEDMNIST_TABLE
    if curated and curated.casefold() == table.casefold():
        raise StudyError(f"datasets.{name}.curated: is called {curated}, as is the set's table; rename one of them")
    return Layout(table=table, groups=params.groups or "", masks=params.masks or "", curated=curated)


def _check(name: str, params: DatasetParams) -> None:
    key = f"datasets.{name}"
    if unknown := [trait for trait in params.traits if trait not in TRAITS]:
        raise StudyError(f"{key}.traits: unknown {unknown[0]}; choose from {', '.join(TRAITS)}")
    if params.classes and (surplus := set(params.without_evidence) - set(params.classes)):
        raise StudyError(f"{key}.without_evidence: {min(surplus)} is none of the classes")
    if params.kind == MEDMNIST and (params.table or params.masks):
        raise StudyError(f"{key}.kind: a MedMNIST file has neither table nor masks; remove those keys")
