"""What the page is made from: the records and tables of a prepared set, checked to belong together."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.data.prepared import load_prepared
from pipeline.data.preparing.file_tables import FILES, LINKS
from pipeline.errors import StudyError
from pipeline.records import Audit, SourceReceipt

NUMBERS = ("width_px", "height_px", "bytes", "masks", "mask_fraction")
LEFT_OUT = ""  # the split of an image file that did not enter the set


@dataclass(frozen=True)
class AuditedSet:
    """A prepared set with where it came from."""

    raw: Path
    receipt: SourceReceipt
    audit: Audit
    files: pd.DataFrame  # a row per image file, kept or not; its split and group are those of index.csv
    links: pd.DataFrame  # first, second, method, value: pairs that belong together

    @property
    def kept(self) -> pd.DataFrame:
        return kept_of(self.files)


def kept_of(files: pd.DataFrame) -> pd.DataFrame:
    return files[files["split"] != LEFT_OUT]


def read_audited_set(raw: Path, prepared: Path) -> AuditedSet:
    """The set prepared in `prepared` from the files in `raw`.

    Raises:
        StudyError: a file is absent or damaged, or they do not belong together.
    """
    held, audit = load_prepared(prepared), Audit.read(prepared)
    name = audit.dataset
    files, links = _read_text(prepared / FILES, name), _read_text(prepared / LINKS, name)
    receipt = SourceReceipt.read_from(raw.with_suffix(".json"))
    splits = held.index.set_index("file")[["split", "group"]]
    try:
        files = files.drop(columns=["split", "group"]).join(splits, on="file")
        files[list(NUMBERS)] = files[list(NUMBERS)].apply(pd.to_numeric)
        links["value"] = pd.to_numeric(links["value"])
        strangers = {*splits.index, *links["first"], *links["second"]} - {*files["file"]}
    except (KeyError, ValueError) as error:
        raise _inconsistent(prepared, name, f"{FILES} or {LINKS} is damaged: {error}") from None
    if strangers:
        raise _inconsistent(prepared, name, f"{FILES} does not list {min(strangers)!a}")
    return AuditedSet(raw, receipt, audit, files.fillna({"split": LEFT_OUT}), links)


def _read_text(path: Path, dataset: str) -> pd.DataFrame:
    """All cells as text, so that a file called NA or 007 keeps its name."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, lineterminator="\n")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run `dvc repro -f preprocess@{dataset}`") from None
    except (ValueError, pd.errors.ParserError) as error:
        raise _inconsistent(path.parent, dataset, f"{path.name} is damaged: {str(error).splitlines()[0]}") from None


def _inconsistent(folder: Path, dataset: str, reason: str) -> StudyError:
    return StudyError(f"{folder}: {reason}; run `dvc repro -f preprocess@{dataset}`")
