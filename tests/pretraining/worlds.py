"""Small corpora: a labelled set whose classes are colours, a second one, and one without labels."""

from dataclasses import replace
from pathlib import Path

from pipeline.data import DATASETS
from pipeline.data.sets.unlabelled import unlabelled
from pipeline.pretraining.corpus import Corpus, load_corpus
from pipeline.spec import DatasetSpec
from tests.prepared import CLASSES, write_prepared

COLOURS = replace(DATASETS["pbc"], name="colours", classes=CLASSES)
SHADES = replace(DATASETS["busi"], name="shades", classes=CLASSES)
SCANS = unlabelled("scans")


def make_corpus(folder: Path, *specs: DatasetSpec) -> Corpus:
    """One prepared set of 35 images (14 train, 9 validation, 12 test) for each spec."""
    chosen = specs or (COLOURS, SHADES)
    folders = [write_prepared(folder / spec.name, spec=spec) for spec in chosen]
    return load_corpus(folders)
