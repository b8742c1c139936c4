"""The first lines of the page: what is in order, what is worth a look, and what must not be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipeline.report.audit_page.classes import absent, class_counts
from pipeline.report.audit_page.likeness import is_across_labels, near_train, torn_groups
from pipeline.report.audit_page.masks import mask_counts
from pipeline.report.audit_page.reading import AuditedSet, kept_of
from pipeline.report.audit_page.traits import TraitTable
from pipeline.report.audit_page.words import counted, named

Sign = Literal["fine", "look", "fault", "note"]
TO_HEED: tuple[Sign, ...] = ("look", "fault")


@dataclass(frozen=True)
class Verdict:
    sign: Sign
    check: str
    found: str


def verdicts(audited: AuditedSet, groups: Sequence[pd.DataFrame], traits: Sequence[TraitTable]) -> list[Verdict]:
    """All of a set; `groups` are those of images that show one picture."""
    return [
        *_split(audited, groups),
        *_labels(audited, groups),
        *_files(audited),
        *_masks(audited),
        *map(_trait, traits),
    ]


def _split(audited: AuditedSet, groups: Sequence[pd.DataFrame]) -> Iterator[Verdict]:
    leaking, torn = near_train(groups), torn_groups(audited.kept)
    told = f": {named(leaking)}; scores of this test split say too much" if leaking else ""
    yield Verdict("fault" if leaking else "fine", "test images with a near-copy in train", f"{len(leaking):,}{told}")
    of = f"{torn:,} of {counted(audited.kept['group'].nunique(), 'group')}"
    yield Verdict("fault" if torn else "fine", "groups that stand in two splits", of)
    counts = class_counts(audited.kept, audited.audit.classes)
    lacking = absent(counts)
    yield Verdict(
        "fault" if lacking else "fine", "classes in every split", "; ".join(lacking) or f"all {len(counts)} of them"
    )
    yield _patients(audited)
    layout = audited.audit.spec.layout
    made = "made by the study: by class, and what belongs together on one side"
    yield Verdict("note", "split", f"given by {layout.table}" if audited.audit.given_splits else made)


def _patients(audited: AuditedSet) -> Verdict:
    if not audited.audit.given_groups:
        return Verdict("look", "patients", "no patient ids: the split cannot be patient-disjoint")
    column = audited.audit.spec.layout.groups or "group"
    given = counted(audited.audit.given_groups, "value")
    return Verdict("fine", "patients, or what else must not be torn apart", f"{given} of {column} in the set's table")


def _labels(audited: AuditedSet, groups: Sequence[pd.DataFrame]) -> Iterator[Verdict]:
    conflicts = audited.audit.label_conflicts
    files = sum(map(len, conflicts))
    told = f"{counted(len(conflicts), 'picture')} in {counted(files, 'file')}, dropped under each" if conflicts else "0"
    yield Verdict("look" if conflicts else "fine", "images under two labels", told)
    mixed = [rows for rows in map(kept_of, groups) if is_across_labels(rows)]
    told = (
        f"{counted(len(mixed), 'group')}, {counted(sum(map(len, mixed)), 'image')}, kept and flagged" if mixed else "0"
    )
    yield Verdict("look" if mixed else "fine", "look-alikes under two labels", told)


def _files(audited: AuditedSet) -> Iterator[Verdict]:
    unreadable = audited.files.loc[audited.files["sha256"] == "", "file"].tolist()
    told = f": {named(unreadable)}" if unreadable else ""
    sign: Sign = "look" if unreadable else "fine"
    yield Verdict(sign, "unreadable images", f"{len(unreadable):,} of {len(audited.files):,}{told}")


def _masks(audited: AuditedSet) -> Iterator[Verdict]:
    if not audited.files["masks"].any():
        yield Verdict("note", "masks", "none: where heatmaps ought to point cannot be told")
        return
    spec, found = audited.audit.spec, mask_counts(audited.kept, audited.audit.spec)
    refused = f"{found.refused:,}, taken for images without a mask" if found.refused else "0"
    yield Verdict("look" if found.refused else "fine", "images with a refused mask", refused)
    without = f"{found.without:,} of {len(audited.kept):,}"
    yield Verdict("look" if found.without else "fine", "images without a mask", without)
    parts = {
        f"empty where a {spec.evidence} is expected": found.empty,
        "covering nearly all of the image": found.huge,
        f"outlining a {spec.evidence} where none is expected": found.unexpected,
    }
    told = "; ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    yield Verdict("look" if found.odd else "fine", "odd masks", told or "0")


def _trait(trait: TraitTable) -> Verdict:
    told = "uneven, a shortcut to learn" if trait.uneven else "no more uneven than by chance"
    return Verdict("look" if trait.uneven else "fine", f"{trait.name} by class", f"{told}; {trait.summary}")
