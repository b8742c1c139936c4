"""The files of one cell: where they lie, that they belong together, and which of them a run shows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.files import files_under, sha256_of
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, Audit
from pipeline.report.cells import Cell, load_cell

# The folders of a run's artifacts; they are named as in data/.
PREPARED, TRAINED, EXPLAINED, SCORED = "prepared", "models", "heatmaps", "scores"
SHOWN = {
    PREPARED: ("audit.json", "set.json", "index.csv", "traits.csv"),
    TRAINED: ("receipt.json", "classification.json", "predictions.csv", "history.csv"),
    EXPLAINED: ("explanation.json", ATTRIBUTIONS),
    SCORED: (
        "summary.json",
        "scores.csv",
        "variants.csv",
        "localisation.csv",
        "curves.npz",
        "curves_mean.csv",
        "trust.json",
        "trust.csv",
        "shortcut.csv",
    ),
}


@dataclass(frozen=True)
class CellFiles:
    data_dir: Path
    dataset: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.dataset}-{self.model}"

    @property
    def prepared(self) -> Path:
        return self.data_dir / "prepared" / self.dataset

    @property
    def trained(self) -> Path:
        return self.data_dir / "models" / self.dataset / self.model

    @property
    def explained(self) -> Path:
        return self.data_dir / "heatmaps" / self.dataset / self.model

    @property
    def scored(self) -> Path:
        return self.data_dir / "scores" / self.dataset / self.model

    def artifacts(self) -> Iterator[tuple[Path, str]]:
        """All but the weights, which go to the logged model: each file, and its folder among the run's artifacts."""
        folders = {PREPARED: self.prepared, TRAINED: self.trained, EXPLAINED: self.explained, SCORED: self.scored}
        for folder, names in SHOWN.items():
            yield from ((folders[folder] / name, folder) for name in names if (folders[folder] / name).is_file())
        yield from ((path, f"{EXPLAINED}/overlays") for path in files_under(self.explained / "overlays"))
        for path in sorted((self.data_dir / "report" / "figures").glob(f"{self.dataset}_*.png")):
            yield path, "figures"


def checked_cell(files: CellFiles) -> Cell:
    """The cell's records, checked against each other, the checkpoint and the prepared data.

    Raises:
        StudyError: a file is absent, damaged or does not belong to the others.
    """
    cell = load_cell(files.data_dir, files.dataset, files.model)
    checkpoint = files.trained / CHECKPOINT
    if not checkpoint.is_file() or sha256_of(checkpoint) != cell.receipt.checkpoint_sha256:
        raise StudyError(f"{checkpoint}: not the file of its receipt; run `dvc repro finetune@{files.name}`")
    audit = Audit.read(files.prepared)
    if audit.data_sha256 != cell.receipt.data_sha256:
        raise StudyError(f"{files.prepared}: not the data of {files.name}; run `dvc repro score@{files.name}`")
    return cell
