"""A raw folder becomes a prepared set: every judgement, on sets made up on the spot, and the real samples."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.data import DATASETS
from pipeline.data.fetching.source import fetch_source
from pipeline.data.images import square_image
from pipeline.data.prepared import Prepared, load_prepared
from pipeline.data.preparing.prepare import prepare_dataset
from pipeline.data.sets.busi import BUSI
from pipeline.data.sets.pbc import PBC
from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.params import load_params
from pipeline.records import Audit
from tests.data.sets import PARAMS, SIDE, box, encoded, ignore, make_busi, make_classes, noise, prepare, reasons, write

LENIENT = PARAMS.model_copy(update={"max_unreadable_fraction": 0.5})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return make_busi(tmp_path / "raw").parent


def test_the_arrays_hold_each_file_in_the_row_of_the_index(raw: Path, tmp_path: Path) -> None:
    audit = prepare(raw, tmp_path / "prepared")
    prepared = load_prepared(tmp_path / "prepared")
    assert prepared.index["row"].tolist() == list(range(12))
    assert prepared.index["file"].tolist() == sorted(prepared.index["file"])
    for row in prepared.index.itertuples():
        content = (raw / row.file).read_bytes()
        assert (prepared.images[row.row] == square_image(content, 16)).all()
        assert row.sha256 == sha256_of(raw / row.file)
        expected = box(16, 16, 0 if row.label == 2 else 0.25) > 0
        assert (prepared.masks[row.row] == expected).all()
    assert audit.dropped == audit.flagged == ()


def test_the_audit_counts_what_the_index_lists(raw: Path, tmp_path: Path) -> None:
    audit = prepare(raw, tmp_path / "prepared")
    index = pd.read_csv(tmp_path / "prepared" / "index.csv")
    counts = index.groupby(["split", "class"]).size()
    assert audit.images_per_split == {s: counts[s].to_dict() for s in ("train", "validation", "test")}
    assert audit.images_per_class == {"benign": 4, "malignant": 4, "normal": 4}
    assert (audit.images, audit.masks) == (12, 12)
    names = ("index.csv", "images.npy", "masks.npy")
    assert audit.data_sha256 == sha256_of(*(tmp_path / "prepared" / name for name in names))
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == [
        "audit.json",
        "files.csv",
        "images.npy",
        "index.csv",
        "links.csv",
        "masks.npy",
        "set.json",
        "traits.csv",
    ]


def test_traits_stand_in_the_row_of_their_image(raw: Path, tmp_path: Path) -> None:
    write(raw / "top" / "benign" / "grey.png", encoded(Image.new("RGB", (SIDE, SIDE), (90, 90, 90))))
    audit = prepare(raw, tmp_path / "prepared")
    prepared = load_prepared(tmp_path / "prepared")
    plain = prepared.index["file"] == "top/benign/grey.png"
    assert (prepared.traits["burnt_in_marks"] == np.where(plain, "plain", "marked")).all()  # noise has colour
    assert audit.traits == {"burnt_in_marks": {"marked": 12, "plain": 1}}
    assert (tmp_path / "prepared" / "traits.csv").read_bytes().startswith(b"row,burnt_in_marks\n0,marked\n")


def test_images_left_out_are_not_counted_among_the_traits(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "top" / "benign" / "benign (0).png", raw / "top" / "benign" / "copy.png")
    write(raw / "top" / "benign" / "zero.png", b"")
    assert prepare(raw, tmp_path / "prepared", LENIENT).traits == {"burnt_in_marks": {"marked": 12}}


def test_a_set_without_traits_lists_its_rows_alone(raw: Path, tmp_path: Path) -> None:
    audit = prepare(raw, tmp_path / "prepared", spec=replace(BUSI, traits=()))
    assert audit.traits == {}
    assert (tmp_path / "prepared" / "traits.csv").read_text().split() == ["row", *map(str, range(12))]
    assert load_prepared(tmp_path / "prepared").traits.shape == (12, 0)


def test_the_array_of_masks_is_empty_where_there_are_none(tmp_path: Path) -> None:
    make_classes(tmp_path / "raw", PBC, 3)
    assert prepare(tmp_path / "raw", tmp_path / "prepared", spec=PBC).masks == 0
    assert np.load(tmp_path / "prepared" / "masks.npy").shape == (0, 16, 16)
    assert load_prepared(tmp_path / "prepared").masks is None


def test_the_bytes_are_the_same_for_any_number_of_processes(raw: Path, tmp_path: Path) -> None:
    for processes in (1, 2):
        prepare(raw, tmp_path / str(processes), processes=processes)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / number).iterdir()} for number in "12")
    assert one == two


def test_progress_counts_the_images(raw: Path, tmp_path: Path) -> None:
    seen = []
    prepare(raw, tmp_path / "prepared", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 12) for number in range(1, 13)]


def test_an_unreadable_image_is_named_and_left_out(raw: Path, tmp_path: Path) -> None:
    write(raw / "top" / "benign" / "zero.png", b"")
    audit = prepare(raw, tmp_path / "prepared", LENIENT)
    assert reasons(audit) == {"zero.png": "cannot be read: the file is empty"}
    assert audit.images == 12


def test_too_many_unreadable_images_are_refused_naming_the_first(raw: Path, tmp_path: Path) -> None:
    for number in range(5):
        write(raw / "top" / "benign" / f"broken {number}.png", b"not an image")
    with pytest.raises(StudyError) as refusal:
        prepare(raw, tmp_path / "prepared", PARAMS.model_copy(update={"max_unreadable_fraction": 0.25}))
    assert "5 of 17 images cannot be used as they are" in str(refusal.value)
    assert "top/benign/broken 2.png: not an image; and 2 more" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not [path for path in tmp_path.iterdir() if path != raw]


def test_a_failed_run_leaves_the_earlier_set(raw: Path, tmp_path: Path) -> None:
    audit = prepare(raw, tmp_path / "prepared")
    write(raw / "top" / "benign" / "zero.png", b"")
    with pytest.raises(StudyError):
        prepare(raw, tmp_path / "prepared")
    assert Audit.read(tmp_path / "prepared") == audit


def test_a_mask_that_does_not_fit_is_refused_with_both_sizes(raw: Path, tmp_path: Path) -> None:
    write(raw / "top" / "benign" / "benign (1)_mask_1.png", encoded(box(40, 48)))
    message = (
        r"benign \(1\)_mask_1.png: mask refused.*it is 48 x 40 px, its image 32 x 32 px; cut it to its image or remove"
    )
    with pytest.raises(StudyError, match=message):
        prepare(raw, tmp_path / "prepared")


def test_where_faults_are_allowed_a_refused_mask_leaves_its_image_without_one(raw: Path, tmp_path: Path) -> None:
    write(raw / "top" / "benign" / "benign (1)_mask_1.png", encoded(box(40, 48)))
    audit = prepare(raw, tmp_path / "prepared", LENIENT)
    prepared = load_prepared(tmp_path / "prepared")
    row = prepared.index["file"].str.endswith("benign (1).png")
    assert prepared.index["has_mask"].tolist() == (~row).tolist()
    assert not prepared.masks[prepared.index.loc[row, "row"]].any()
    assert (audit.images, audit.masks) == (12, 11)
    assert reasons(audit)["benign (1)_mask_1.png"].startswith("mask refused, its image counts as having none")


def test_the_masks_of_an_image_are_joined(raw: Path, tmp_path: Path) -> None:
    write(raw / "top" / "benign" / "benign (0)_mask_1.png", encoded(box()[:, ::-1]))
    prepare(raw, tmp_path / "prepared")
    prepared = load_prepared(tmp_path / "prepared")
    assert (prepared.masks[0] == ((box(16, 16) > 0) | (box(16, 16)[:, ::-1] > 0))).all()


def test_odd_masks_are_flagged_and_kept(raw: Path, tmp_path: Path) -> None:
    speck = np.zeros((SIDE, SIDE), dtype=np.uint8)
    speck[5, 5] = 255
    masks = {"benign (0)": box(part=0), "benign (1)": speck, "malignant (0)": box(part=0.9), "normal (0)": box()}
    for stem, mask in masks.items():
        write(raw / "top" / stem.split()[0] / f"{stem}_mask.png", encoded(mask))
    write(raw / "top" / "benign" / "benign (99)_mask.png", encoded(box()))
    (raw / "top" / "benign" / "benign (2)_mask.png").unlink()
    audit = prepare(raw, tmp_path / "prepared")
    assert reasons(audit) == {
        "benign (0).png": "its mask is empty, but its class is benign",
        "benign (1).png": "its lesion is less than a pixel at this image size",
        "malignant (0).png": "its mask covers 91% of the image; inverted?",
        "normal (0).png": "its mask outlines a lesion, but its class is normal",
        "benign (99)_mask.png": "mask without its image",
    }
    assert (audit.images, audit.masks) == (12, 11)


def test_a_copy_within_a_class_is_dropped_the_first_is_kept(raw: Path, tmp_path: Path) -> None:
    benign = raw / "top" / "benign"
    shutil.copy(benign / "benign (0).png", benign / "copy.png")
    write(benign / "saved anew.png", encoded(Image.open(benign / "benign (0).png"), "BMP"))
    audit = prepare(raw, tmp_path / "prepared")
    assert reasons(audit) == {
        "copy.png": "byte-identical to top/benign/benign (0).png",
        "saved anew.png": "same pixels as top/benign/benign (0).png",
    }
    assert (audit.images, audit.exact_duplicates, audit.label_conflicts) == (12, 2, ())


def test_an_image_under_two_labels_is_dropped_under_both(raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw / "top" / "benign" / "benign (0).png", raw / "top" / "malignant" / "x.png")
    audit = prepare(raw, tmp_path / "prepared")
    assert reasons(audit) == {
        "benign (0).png": "same image under two labels: top/malignant/x.png",
        "x.png": "same image under two labels: top/benign/benign (0).png",
    }
    assert audit.label_conflicts == (("top/benign/benign (0).png", "top/malignant/x.png"),)
    assert (audit.images, audit.exact_duplicates) == (11, 1)


def test_look_alikes_share_a_group_and_a_split_also_across_labels(raw: Path, tmp_path: Path) -> None:
    picture = np.asarray(Image.fromarray(noise(7, 6, 6)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    darker = (picture * 0.9).astype(np.uint8)
    for name, pixels in (("benign/a", picture), ("benign/b", darker), ("malignant/c", picture // 8 * 8)):
        write(raw / "top" / f"{name}.png", encoded(pixels))
    audit = prepare(raw, tmp_path / "prepared")
    files = ("top/benign/a.png", "top/benign/b.png", "top/malignant/c.png")
    assert audit.duplicate_groups == (files,)
    index = pd.read_csv(tmp_path / "prepared" / "index.csv").set_index("file")
    assert index.loc[list(files), "group"].nunique() == index.loc[list(files), "split"].nunique() == 1
    assert index["group"].nunique() == 13
    assert set(reasons(audit)) == {"a.png", "b.png", "c.png"}
    assert reasons(audit)["c.png"].startswith("looks like top/benign/a.png, top/benign/b.png of another class")


def test_hard_names_come_back_from_the_index(raw: Path, tmp_path: Path) -> None:
    names = ["quote'\",semi;colon\n.png", "cafe\u0301_nfd.png", "-rf.png", "célula_細胞_ß😀.png", "NA.png"]
    for number, name in enumerate(names):
        write(raw / "top" / "normal" / name, encoded(noise(1000 + number)))
    prepare(raw, tmp_path / "prepared")
    index = load_prepared(tmp_path / "prepared").index
    assert {f"top/normal/{name}" for name in names} <= set(index["file"])


def test_an_absent_raw_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"dvc repro fetch@busi"):
        prepare(tmp_path / "nowhere", tmp_path / "prepared")


EMBEDDED = load_params(Path(__file__).parents[3] / "params.yaml")
# All groups of the samples' README. The hash alone misses malignant 27, 28 (distance 10), and that malignant 4, 5 show
# the lesion of 6 to 9 (12 and more); the overlap search finds both.
BUSI_GROUPS = {
    "malignant": [{4, 5, 6, 7, 8, 9}, {27, 28}, {39, 42}],
    "normal": [{5, 13}, {38, 43, 50}, {39, 48}, {40, 46}, {41, 44, 47}, {42, 45, 49}],
}


def load_sample(samples: Path, dataset: str, tmp_path: Path) -> tuple[Prepared, Audit]:
    params = EMBEDDED.datasets[dataset].model_copy(update={"source": str(samples / dataset)})
    raw, prepared = tmp_path / "raw", tmp_path / "prepared"
    fetch_source(DATASETS[dataset], params, EMBEDDED.phantom, raw, 1, ignore, "datasets.source")
    audit = prepare_dataset(DATASETS[dataset], params, EMBEDDED.preprocess, 0, raw, prepared, 2, ignore)
    return load_prepared(prepared), audit


@pytest.mark.slow
def test_the_real_ultrasound_sample(samples: Path, tmp_path: Path) -> None:
    prepared, audit = load_sample(samples, "busi", tmp_path)
    assert audit.images_per_class == {"benign": 34, "malignant": 35, "normal": 35}
    found = {frozenset(Path(file).name for file in group) for group in audit.duplicate_groups}
    expected = {frozenset(f"{c} ({n}).png" for n in group) for c, groups in BUSI_GROUPS.items() for group in groups}
    assert found == expected
    assert prepared.index.groupby("group")["split"].nunique().max() == 1
    assert list(reasons(audit)) == ["benign (4)_mask_1.png"]  # 555 x 465 px beside an image of 416 x 416
    assert "555 x 465 px, its image 416 x 416 px" in audit.dropped[0].reason


@pytest.mark.slow
def test_the_real_cell_sample(samples: Path, tmp_path: Path) -> None:
    prepared, audit = load_sample(samples, "pbc", tmp_path)
    assert prepared.images.shape == (638, 64, 64, 3)
    assert {Path(entry.file).stem for entry in audit.dropped} == {"BA_988506", "BA_80990"}
    assert audit.images_per_split["test"] == dict.fromkeys(PBC.classes, 16)
    assert prepared.masks is None


def test_real_awkward_masks(samples: Path, tmp_path: Path) -> None:
    raw = make_busi(tmp_path / "raw").parent
    shutil.copytree(samples / "awkward" / "busi_pairs", raw, dirs_exist_ok=True)
    for number, path in enumerate(sorted(raw.glob("Dataset*/*/*).png"))):  # they are one picture, so set them apart
        write(path, encoded(noise(1000 + number, 112, 128)))
    said = reasons(prepare(raw, tmp_path / "prepared", LENIENT))
    assert said.pop("benign (902)_mask.png").endswith(
        "160 x 140 px, its image 128 x 112 px; cut it to its image or remove it"
    )
    assert said == {
        "benign (904)_mask.png": "mask without its image",
        "benign (909).png": "its mask is empty, but its class is benign",
        "malignant (901).png": "its mask covers 88% of the image; inverted?",
        "malignant (902).png": "its mask covers 100% of the image; inverted?",
        "normal (902).png": "its mask outlines a lesion, but its class is normal",
    }
    prepared = load_prepared(tmp_path / "prepared")
    names = [Path(file).stem for file in prepared.index["file"]]
    area = dict(zip(names, prepared.masks.sum(axis=(1, 2)).tolist(), strict=True))
    assert all(area[f"benign ({number})"] > 0 for number in (901, 905, 906, 907, 908))
    assert area["benign (905)"] > area["benign (901)"]
    without = prepared.index.loc[~prepared.index["has_mask"], "file"]
    assert [Path(file).stem for file in without] == ["benign (902)", "benign (903)", "normal (903)"]


def test_real_leakage(samples: Path, tmp_path: Path) -> None:
    raw = make_busi(tmp_path / "raw").parent
    shutil.copytree(samples / "awkward" / "leakage" / "Dataset_BUSI_with_GT", raw / "leakage")
    audit = prepare(raw, tmp_path / "prepared", distance=8)
    assert [Path(file).name for file in audit.label_conflicts[0]] == ["benign (433).png", "malignant (145).png"]
    assert [Path(file).name for file in audit.duplicate_groups[0]] == ["benign (200).png", "benign (274).png"]
