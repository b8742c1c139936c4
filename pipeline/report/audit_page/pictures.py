"""The pictures of images that belong together: small, from the raw files, with what links them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from posixpath import commonpath, dirname

import numpy as np
import pandas as pd

from pipeline.data.images import decode_image
from pipeline.data.preparing.duplicates import HASH_BITS
from pipeline.data.preparing.file_tables import EQUAL
from pipeline.data.unreadable import UnreadableError
from pipeline.errors import StudyError
from pipeline.report.audit_page.likeness import SAME_PICTURE, is_across_labels
from pipeline.report.audit_page.reading import AuditedSet
from pipeline.report.audit_page.words import printable
from pipeline.report.gallery import webp_uri

GROUPS, MEMBERS, LINKS = 24, 8, 8  # shown; of each group the latter two
SIDE_PX = 96
LINK_TEXTS = {
    EQUAL: "equal pixels",
    "perceptual_hash": f"{{:.0f}} of {HASH_BITS} bits differ",
    "overlap": "cuts of one field (correlation {:.3f})",
    "curated": "listed together",
}


@dataclass(frozen=True)
class Member:
    """One image of a group."""

    number: int  # within the group
    file: str
    name: str  # the file without the folder that its group has in common
    class_name: str
    split: str  # empty: left out
    picture: str  # data URI


@dataclass(frozen=True)
class Group:
    members: Sequence[Member]
    more_members: int
    links: Sequence[str]  # between the members shown
    more_links: int
    across_labels: bool


def in_showing_order(groups: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Those under two labels first, then the largest."""
    return sorted(groups, key=lambda rows: (not is_across_labels(rows), -len(rows)))


def shown_groups(audited: AuditedSet, groups: Sequence[pd.DataFrame]) -> list[Group]:
    """The first GROUPS of them with pictures.

    Raises:
        StudyError: a raw image is no longer what was prepared.
    """
    return [_group(audited, rows) for rows in groups[:GROUPS]]


def thumbnail(path: Path, dataset: str) -> str:
    """The image file as the study decodes it, at most SIDE_PX wide and high, as a data URI."""
    try:
        image = decode_image(path.read_bytes())
    except (OSError, UnreadableError):
        raise StudyError(
            f"{path}: is no longer the image that was prepared; run `dvc repro -f preprocess@{dataset}`"
        ) from None
    image.thumbnail((SIDE_PX, SIDE_PX))
    return webp_uri(np.asarray(image))


def _group(audited: AuditedSet, rows: pd.DataFrame) -> Group:
    shown = rows.head(MEMBERS)
    numbers = {file: number for number, file in enumerate(shown["file"], start=1)}
    links, folder = _links(audited.links, numbers), commonpath(map(dirname, numbers))
    return Group(
        members=[_member(audited, numbers[row["file"]], folder, row) for row in shown.to_dict("records")],
        more_members=len(rows) - len(shown),
        links=links[:LINKS],
        more_links=max(len(links) - LINKS, 0),
        across_labels=is_across_labels(rows),
    )


def _member(audited: AuditedSet, number: int, folder: str, row: dict) -> Member:
    return Member(
        number=number,
        file=printable(row["file"]),
        name=printable(row["file"].removeprefix(folder and f"{folder}/")),
        class_name=row["class"],
        split=row["split"],
        picture=thumbnail(audited.raw / row["file"], audited.audit.dataset),
    )


def _links(links: pd.DataFrame, numbers: dict[str, int]) -> list[str]:
    """What links each pair of the members with those numbers."""
    within = links["first"].isin(numbers) & links["second"].isin(numbers) & links["method"].isin(SAME_PICTURE)
    pairs: dict[tuple[int, int], list[str]] = {}
    for link in links[within].to_dict("records"):
        first, second = sorted((numbers[link["first"]], numbers[link["second"]]))
        pairs.setdefault((first, second), []).append(LINK_TEXTS[link["method"]].format(link["value"]))
    return [f"{first} and {second}: {', '.join(texts)}" for (first, second), texts in sorted(pairs.items())]
