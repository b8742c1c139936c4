"""Two tables beside the audit: every image file with what became of it, and every pair that belongs together."""

from collections.abc import Sequence

import pandas as pd

from pipeline.data.preparing.judging import Judged
from pipeline.data.preparing.reading import Found, files_of
from pipeline.records import Audit

FILES, LINKS = "files.csv", "links.csv"
EQUAL = "pixels"  # the method of pairs whose pixels are equal


def file_table(found: Sequence[Found], index: pd.DataFrame, audit: Audit) -> pd.DataFrame:
    """A row per image file, kept or not; several reasons are joined. Patients' ids stay out, groups are numbers."""
    rows = [
        {
            "file": one.image.file,
            "class": one.image.class_name,
            "format": one.reading.format,
            "mode": one.reading.mode,
            "width_px": one.reading.width_px,
            "height_px": one.reading.height_px,
            "bytes": one.reading.size_bytes,
            "sha256": one.reading.sha256,
            "masks": len(one.image.masks),
            "mask_fraction": one.reading.mask_fraction,
            **{trait: one.reading.traits.get(trait, "") for trait in audit.spec.traits},
        }
        for one in found
    ]
    table = pd.DataFrame(rows).merge(index[["file", "split", "group"]], on="file", how="left", validate="one_to_one")
    reasons: dict[str, list[str]] = {}
    for entry in (*audit.dropped, *audit.flagged):
        reasons.setdefault(entry.file, []).append(entry.reason)
    flagged = {entry.file for entry in audit.flagged}
    table["group"] = table["group"].astype("Int64")
    table["status"] = ["flagged" if file in flagged else "kept" for file in table["file"]]
    table.loc[table["split"].isna(), "status"] = "dropped"
    table["reason"] = ["; ".join(reasons.get(file, ())) for file in table["file"]]
    return table


def link_table(judged: Judged) -> pd.DataFrame:
    """A row per pair: the two files, the method that links them, and its measure (bits that differ, correlation)."""
    files = files_of(judged.kept)
    rows = [(first, second, EQUAL, 0.0) for first, second in judged.copies.pairs]
    rows += [(files[link.first], files[link.second], link.method, link.value) for link in judged.likeness.links]
    return pd.DataFrame(rows, columns=["first", "second", "method", "value"])
