"""Makes the page: reads the set, works out each part, and writes one file that needs nothing from anywhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.fetching.source import PHANTOM
from pipeline.data.preparing.split import SPLITS
from pipeline.files import whole_folder
from pipeline.records import Dropped
from pipeline.report.audit_page.classes import class_counts, totals
from pipeline.report.audit_page.formats import byte_facts, tallies
from pipeline.report.audit_page.likeness import methods, picture_groups
from pipeline.report.audit_page.masks import ENDS, coverages, mask_counts
from pipeline.report.audit_page.pictures import in_showing_order, shown_groups
from pipeline.report.audit_page.reading import AuditedSet, read_audited_set
from pipeline.report.audit_page.traits import TraitTable, trait_tables
from pipeline.report.audit_page.verdicts import Verdict, verdicts
from pipeline.report.audit_page.words import counted, in_bytes, printable, share
from pipeline.report.rendering import environment

PAGE = "audit.html"
WRITTEN = {"counted": counted, "share": share, "in_bytes": in_bytes}


def write_audit_page(raw: Path, prepared: Path, audit_folder: Path) -> list[Verdict]:
    """`audit_folder`/audit.html of the set prepared from `raw`; returns its first lines.

    Raises:
        StudyError: a file is absent or damaged, or they do not belong together.
    """
    audited = read_audited_set(raw, prepared)
    groups = picture_groups(audited)
    traits = trait_tables(audited.kept, audited.audit.spec.traits, audited.audit.classes)
    lines = verdicts(audited, groups, traits)
    text = environment().get_template("audit_page/page.html").render(**_content(audited, groups, traits, lines))
    with whole_folder(audit_folder) as folder:
        (folder / PAGE).write_text(text, encoding="utf-8", newline="\n")
    return lines


def _content(
    audited: AuditedSet, groups: Sequence[pd.DataFrame], traits: Sequence[TraitTable], lines: Sequence[Verdict]
) -> dict[str, Any]:
    audit, kept = audited.audit, audited.kept
    conflicts, alike = _parted(groups, audit.label_conflicts)
    return WRITTEN | {
        "audit": audit,
        "receipt": audited.receipt,
        "synthetic": audited.receipt.source == PHANTOM,
        "verdicts": lines,
        "splits": SPLITS,
        "classes": (classes := class_counts(kept, audit.classes)),
        "split_totals": totals(classes),
        "traits": traits,
        "methods": methods(audited),
        "conflicts": shown_groups(audited, conflicts),
        "all_conflicts": len(conflicts),
        "groups": shown_groups(audited, in_showing_order(alike)),
        "all_groups": len(alike),
        "masks": mask_counts(kept, audit.spec) if audited.files["masks"].any() else None,
        "coverages": coverages(kept, audit.classes),
        "ends": ENDS,
        "tallies": tallies(kept, audit.classes),
        "byte_facts": byte_facts(kept),
        "dropped": _printable(audit.dropped),
        "flagged": _printable(audit.flagged),
    }


def _parted(
    groups: Sequence[pd.DataFrame], label_conflicts: Sequence[Sequence[str]]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """The groups of pictures dropped for standing under two labels, and the others."""
    unclear = {file for files in label_conflicts for file in files}
    is_unclear = [not unclear.isdisjoint(rows["file"]) for rows in groups]
    pairs = list(zip(groups, is_unclear, strict=True))
    return [rows for rows, flag in pairs if flag], [rows for rows, flag in pairs if not flag]


def _printable(entries: Sequence[Dropped]) -> list[Dropped]:
    return [Dropped(file=printable(entry.file), reason=printable(entry.reason)) for entry in entries]
