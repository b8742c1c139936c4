"""The images to pre-train on: phantoms that no study shares, folders without labels, prepared once."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.data import DATASETS
from pipeline.data.fetching.source import fetch_source
from pipeline.data.prepared import load_prepared
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.errors import StudyError
from pipeline.pretraining.sources import prepare_sources, sources_of
from tests.data.sets import encoded, ignore, make_busi, noise, write
from tests.pretraining.test_pretrain import params_of


def make_scans(folder: Path, count: int = 12) -> Path:
    """Images in folders that say nothing, with a mask and a text between them."""
    for number in range(count):
        write(folder / f"patient {number % 3}" / f"scan_{number}.png", encoded(noise(number)))
    write(folder / "patient 0" / "scan_0_mask.png", encoded(noise(99)))
    write(folder / "notes.txt", b"notes")
    return folder


def prepare(tmp_path: Path, **changes: object) -> list[Path]:
    return prepare_sources(params_of(**changes), tmp_path / "corpus", ignore)


@pytest.mark.slow
def test_no_phantom_is_one_of_the_studys(tmp_path):
    params = params_of()
    (prepared,) = prepare(tmp_path)
    raw, own = tmp_path / "raw", tmp_path / "own"
    fetch_source(DATASETS["busi"], params.datasets["busi"], params.phantom, raw, 1, ignore, "source")
    prepare_dataset(
        DATASETS["busi"], params.datasets["busi"], params.preprocess, params.study.seed, raw, own, 1, ignore
    )
    hashes = [set(pd.read_csv(folder / "index.csv")["sha256"]) for folder in (prepared, own)]
    assert not hashes[0] & hashes[1]


def test_the_phantoms_carry_no_planted_faults():
    (source,) = sources_of(params_of())
    planted = source.phantom.busi
    assert (planted.images_per_class, planted.near_copy_fraction, planted.label_conflicts) == (20, 0, 0)


def test_a_folder_without_classes_is_taken_whole(tmp_path):
    scans = make_scans(tmp_path / "scans")
    (prepared,) = prepare(tmp_path, sources={"scans": str(scans)})
    index = pd.read_csv(prepared / "index.csv")
    wanted = {path.relative_to(scans).as_posix() for path in scans.rglob("*.png")} - {"patient 0/scan_0_mask.png"}
    assert set(index["file"]) == wanted
    assert len(index) == 12
    assert set(index["class"]) == {"unlabelled"}
    assert set(index["split"]) == {"train", "validation", "test"}


def test_a_source_that_is_the_studys_own_has_the_studys_split(tmp_path):
    source, params = make_busi(tmp_path / "busi", 12), params_of()
    (prepared,) = prepare(tmp_path, sources={"busi": str(source)})
    own = tmp_path / "own"
    prepare_dataset(
        DATASETS["busi"], params.datasets["busi"], params.preprocess, params.study.seed, source, own, 1, ignore
    )
    assert (prepared / "index.csv").read_bytes() == (own / "index.csv").read_bytes()


def test_a_source_prepared_before_there_were_traits_is_prepared_anew(tmp_path):
    sources = {"scans": str(make_scans(tmp_path / "scans"))}
    (first,) = prepare(tmp_path, sources=sources)
    (first / "traits.csv").unlink()
    assert prepare(tmp_path, sources=sources) == [first]
    assert load_prepared(first).traits.shape == (12, 0)


def test_a_prepared_source_is_used_again_until_its_files_change(tmp_path):
    scans = make_scans(tmp_path / "scans")
    sources = {"scans": str(scans)}
    (first,) = prepare(tmp_path, sources=sources)
    stamp = (first / "images.npy").stat().st_mtime_ns
    assert prepare(tmp_path, sources=sources) == [first]
    assert (first / "images.npy").stat().st_mtime_ns == stamp
    write(scans / "one_more.png", encoded(noise(50)))
    (second,) = prepare(tmp_path, sources=sources)
    assert second != first
    assert len(np.load(second / "images.npy", mmap_mode="r")) == 13


def test_nothing_else_is_left_in_the_corpus(tmp_path):
    (prepared,) = prepare(tmp_path)
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {prepared.name, ".lock"}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"scans": "nowhere"}, r"pretraining\.sources\.scans: nowhere: no such file or folder; give the path"),
        ({"scans": "phantom"}, r"pretraining\.sources\.scans: phantoms are drawn of pbc, busi only"),
        (
            {"busi": "ftp://example.org/busi.zip"},
            r"datasets\.busi\.source: ftp://",
        ),
    ],
)
def test_an_absent_source_is_named_by_its_key(sources, message, tmp_path):
    with pytest.raises(StudyError, match=message):
        prepare(tmp_path, sources=sources)
