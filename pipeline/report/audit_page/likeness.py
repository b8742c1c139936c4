"""Which images are one picture, and how that was found: counted anew from links.csv and index.csv.

What `preparing` concluded (its groups, and the test images near train of audit.json) is not taken over, so that a
split that leaks is seen here whatever stands there. Shared is what a link means and how links make groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from pipeline.data.preparing.duplicates import HASH_BITS, linked_groups
from pipeline.data.preparing.file_tables import EQUAL
from pipeline.data.preparing.likeness import PICTURES
from pipeline.data.preparing.split import SPLITS
from pipeline.records import Audit
from pipeline.report.audit_page.reading import AuditedSet

SAME_PICTURE = (EQUAL, *PICTURES)
TRAIN, TEST = SPLITS[0], SPLITS[2]


@dataclass(frozen=True)
class Method:
    """How links between images were sought, and what came of it."""

    title: str
    threshold: str
    links: int
    images: int


def methods(audited: AuditedSet) -> list[Method]:
    """Those that were used on the set."""
    thresholds = {name: text(audited.audit) for name, (_, text) in METHODS.items()}
    return [_method(audited.links, name, threshold) for name, threshold in thresholds.items() if threshold]


def picture_groups(audited: AuditedSet) -> list[pd.DataFrame]:
    """The rows of files that show one picture, also by a chain of links, in groups of two or more."""
    files, links = audited.files, audited.links
    same = links[links["method"].isin(SAME_PICTURE)]
    place = pd.Series(range(len(files)), index=files["file"])
    ends = zip(place[same["first"]].tolist(), place[same["second"]].tolist(), strict=True)
    groups = pd.Series(linked_groups(len(files), ends), index=files.index)
    several = groups[groups.duplicated(keep=False)]
    return [rows for _, rows in files.loc[several.index].groupby(several)]


def near_train(groups: Sequence[pd.DataFrame]) -> list[str]:
    """Test images with a near-copy in train."""
    return [
        str(file) for rows in groups if TRAIN in set(rows["split"]) for file in rows.loc[rows["split"] == TEST, "file"]
    ]


def torn_groups(kept: pd.DataFrame) -> int:
    """Groups of index.csv that stand in two splits."""
    return int((kept.groupby("group")["split"].nunique() > 1).sum())


def is_across_labels(rows: pd.DataFrame) -> bool:
    return rows["class"].nunique() > 1


def _method(links: pd.DataFrame, name: str, threshold: str) -> Method:
    own = links[links["method"] == name]
    return Method(METHODS[name][0], threshold, len(own), len({*own["first"], *own["second"]}))


def _by_hash(audit: Audit) -> str:
    return f"at most {audit.duplicate_distance} of {HASH_BITS} bits differ"


def _by_overlap(audit: Audit) -> str:
    if audit.overlap_correlation is None:
        return "not sought"
    return f"correlation in the overlap of {audit.overlap_correlation:g} or more"


def _by_table(audit: Audit) -> str:
    return f"equal {audit.spec.layout.groups or 'group'}" if audit.given_groups else ""


# Title, and the threshold on a set: empty where the set knows nothing of the method.
METHODS: dict[str, tuple[str, Callable[[Audit], str]]] = {
    EQUAL: ("equal pixels", lambda audit: "every pixel; of a class one file is kept, under two labels none"),
    "perceptual_hash": ("perceptual hash", _by_hash),
    "overlap": ("shifted cuts of one field", _by_overlap),
    "curated": ("curated list", lambda audit: audit.spec.layout.curated),
    "given_group": ("groups of the set's own table", _by_table),
}
