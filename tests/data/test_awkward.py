"""Every awkward file is treated as the samples' README says: made on the spot, and the real ones where they are."""

import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data import DATASETS
from pipeline.data.fetching.archive import unpack
from pipeline.data.images import decode_image, mask_to_square, square_image
from pipeline.data.index import scan_folder
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.data.unreadable import UnreadableError
from pipeline.errors import StudyError
from pipeline.files import whole_folder
from pipeline.params import DatasetParams
from pipeline.records import Audit
from tests.data import awkward
from tests.data.awkward import FILES, HARD_NAMES, LEAKS, PAIRS, SINGLE, ZIPS, pair_file
from tests.data.sets import PARAMS, box, encoded, ignore, make_busi, make_classes, noise, prepare, reasons, write

LENIENT = PARAMS.model_copy(update={"max_unreadable_fraction": 0.8, "image_size_px": 64})


@pytest.fixture(scope="session", params=["made", "real"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "real":
        return request.getfixturevalue("samples") / "awkward"
    return awkward.make_awkward(tmp_path_factory.mktemp("awkward"))


def test_each_sample_has_a_case(samples: Path) -> None:
    files = [path for path in (samples / "awkward").rglob("*") if path.is_file() and path.name != "README.md"]
    assert {path.relative_to(samples / "awkward").as_posix() for path in files} == set(FILES)


def test_each_row_of_the_readme_has_a_case(samples: Path) -> None:
    rows = re.findall(r"^\| (`.*?) \|", (samples / "awkward" / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    claimed = [normalize("NFC", name) for name in (*FILES, *HARD_NAMES)]
    assert len(rows) > 30
    for name in re.findall(r"`(.*?)`", "".join(rows)):
        assert any(normalize("NFC", name).split(".../")[-1].split("...")[-1] in known for known in claimed), name


@pytest.mark.parametrize("name", SINGLE)
def test_a_file_is_decoded_or_refused_by_its_content(folder: Path, name: str) -> None:
    content, expected = (folder / name).read_bytes(), SINGLE[name][1]
    if isinstance(expected, str):
        with pytest.raises(UnreadableError, match=expected):
            decode_image(content)
        return
    with Image.open(folder / name) as opened:
        np.testing.assert_array_equal(np.asarray(decode_image(content)), expected(opened))
    with np.errstate(all="raise"):
        assert square_image(content, 16).shape == (16, 16, 3)


def test_in_a_set_they_are_kept_named_or_skipped(folder: Path, tmp_path: Path) -> None:
    raw = make_busi(tmp_path / "raw").parent
    for name in SINGLE:
        write(raw / "top" / "benign" / name, (folder / name).read_bytes())
    audit = prepare(raw, tmp_path / "prepared", LENIENT)
    litter = {".DS_169665.jpg", "._BA_100102.jpg", "Thumbs.db"}
    assert scan_folder(raw, DATASETS["busi"], "raw").litter == len(litter)
    refused = {name for name, (_, expected) in SINGLE.items() if isinstance(expected, str)} - litter
    said = reasons(audit)
    assert {name for name, reason in said.items() if reason.startswith("cannot be read")} == refused
    kept = {Path(file).name for file in load_prepared(tmp_path / "prepared").index["file"]}
    copies = {name for name, reason in said.items() if reason.startswith(("same pixels", "byte-identical"))}
    assert (kept | copies) & set(SINGLE) == set(SINGLE) - refused - litter


def test_hard_names_come_back_from_archive_and_tables(folder: Path, tmp_path: Path) -> None:
    raw = make_busi(tmp_path / "raw").parent
    unpack(folder / "names.zip", raw / "top" / "normal", ignore)
    for number, name in enumerate(HARD_NAMES):
        path = raw / "top" / "normal" / name
        assert decode_image(path.read_bytes()).size == (96, 96)
        write(path, encoded(noise(1000 + number)))  # they are one picture, so set them apart
        write(path.with_name(f"{normalize('NFC', path.stem)}_mask.png"), encoded(box(part=0)))
    prepare(raw, tmp_path / "prepared")
    for index in (load_prepared(tmp_path / "prepared").index, pd.read_csv(tmp_path / "prepared" / "index.csv")):
        rows = index[index["file"].isin([f"top/normal/{name}" for name in HARD_NAMES])]
        assert len(rows) == len(HARD_NAMES)
        assert rows["has_mask"].all()


@dataclass(frozen=True)
class PreparedPairs:
    folder: Path
    audit: Audit
    prepared: Prepared


@pytest.fixture(scope="module")
def pairs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedPairs:
    """The pairs in a set of their own, with some images more of each class; as all show one picture, set apart."""
    place = tmp_path_factory.mktemp("pairs")
    raw = make_busi(place / "raw").parent
    shutil.copytree(folder / awkward.BUSI_PAIRS, raw / awkward.BUSI_PAIRS)
    for number, pair in enumerate(PAIRS):
        if PAIRS[pair].has_image:
            write(raw / pair_file(pair, ""), encoded(noise(1000 + number, 112, 128)))
    audit = prepare(raw, place / "prepared", LENIENT)
    return PreparedPairs(folder, audit, load_prepared(place / "prepared"))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_has_the_mask_that_it_should(pairs: PreparedPairs, pair: str) -> None:
    case, index = PAIRS[pair], pairs.prepared.index
    rows = index[index["file"] == pair_file(pair, "")]
    assert len(rows) == case.has_image
    assert rows["has_mask"].tolist() == [case.covered is not None] * case.has_image
    if case.covered:
        masks = [np.asarray(Image.open(pairs.folder / pair_file(pair, end))) for end in case.masks]
        expected = mask_to_square(case.covered(masks), LENIENT.image_size_px)
        np.testing.assert_array_equal(pairs.prepared.masks[rows["row"].iloc[0]], expected)


def test_of_the_pairs_just_the_odd_ones_are_named(pairs: PreparedPairs) -> None:
    said = reasons(pairs.audit)
    expected = {f"{pair}{case.said[0]}.png": case.said[1] for pair, case in PAIRS.items() if case.said}
    assert said.keys() == expected.keys()
    for name, remark in expected.items():
        assert re.match(remark, said[name]), said[name]


def test_pairs_without_a_mask_are_counted(pairs: PreparedPairs) -> None:
    without = [pair for pair, case in PAIRS.items() if case.has_image and not case.covered]
    assert pairs.audit.images - pairs.audit.masks == len(without) == 3


def leaky(folder: Path, place: Path, leak: str, overlap: float | None = None) -> tuple[Audit, pd.DataFrame]:
    """Audit and index of a set that holds the two files of the leak, and noise."""
    kind, files = LEAKS[leak]
    raw = make_classes(place / "raw", DATASETS[kind], 4)
    for name in files:
        write(raw / name, (folder / awkward.LEAKAGE / name).read_bytes())
    distance = {"pbc": 4, "busi": 8}[kind]
    params = DatasetParams(source="here", duplicate_distance=distance, overlap_correlation=overlap)
    audit = prepare_dataset(DATASETS[kind], params, PARAMS, 0, raw, place / "prepared", 1, ignore)
    return audit, load_prepared(place / "prepared").index.set_index("file")


@pytest.mark.parametrize("leak", ["one cell under two labels", "one scan under two labels"])
def test_one_image_under_two_labels_is_dropped_and_named(folder: Path, tmp_path: Path, leak: str) -> None:
    audit, index = leaky(folder, tmp_path, leak)
    files = tuple(sorted(LEAKS[leak][1]))
    assert audit.label_conflicts == (files,)
    assert {entry.file for entry in audit.dropped} == set(files)
    assert not set(files) & set(index.index)


@pytest.mark.parametrize("leak", ["one cell, shifted by 5 px", "one lesion twice"])
def test_near_duplicates_share_a_group(folder: Path, tmp_path: Path, leak: str) -> None:
    audit, index = leaky(folder, tmp_path, leak)
    files = tuple(sorted(LEAKS[leak][1]))
    assert audit.duplicate_groups == (files,)
    assert index.loc[list(files), ["group", "split"]].nunique().tolist() == [1, 1]


def test_cuts_of_one_field_share_a_group(folder: Path, tmp_path: Path) -> None:
    """Which a perceptual hash does not see."""
    files = list(LEAKS["one field, shifted by 48 px"][1])
    _, index = leaky(folder, tmp_path / "by hash", "one field, shifted by 48 px")
    assert index.loc[files, "group"].nunique() == 2
    _, index = leaky(folder, tmp_path / "by overlap", "one field, shifted by 48 px", 0.98)
    assert index.loc[files, ["group", "split"]].nunique().tolist() == [1, 1]


@pytest.mark.parametrize("name", ZIPS)
def test_an_archive_is_unpacked_or_refused_without_a_trace(folder: Path, tmp_path: Path, name: str) -> None:
    expected, raw = ZIPS[name][1], tmp_path / "inside" / "raw"
    if isinstance(expected, str):
        with pytest.raises(StudyError, match=expected) as refusal, whole_folder(raw) as partial:
            unpack(folder / "zip" / name, partial, ignore)
        assert name in str(refusal.value)
        assert not [path for path in tmp_path.rglob("*") if path != raw.parent]
        assert not list(Path("/tmp").glob("evil*"))
        return
    with whole_folder(raw) as partial:
        unpack(folder / "zip" / name, partial, ignore)
    spec = replace(DATASETS["pbc"], classes=("lymphocyte", "monocyte"))
    assert {image.file: image.class_name for image in scan_folder(raw, spec, "raw").images} == expected
    assert sum(path.is_file() for path in raw.rglob("*")) == len(expected)
