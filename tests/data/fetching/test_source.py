"""Bringing a set to its folder: whole or not at all."""

import shutil
from pathlib import Path

import pytest

from pipeline.data import DATASETS, get, spec_of
from pipeline.data.fetching.source import fetch_source
from pipeline.errors import StudyError
from pipeline.params import DatasetParams, PhantomParams, load_params
from tests.data.fetching.test_unpack import HARD_NAMES, IMAGE, zipped
from tests.data.sets import ignore, make_busi, make_classes, write

PHANTOM = load_params(Path(__file__).parents[3] / "params.yaml").phantom


def fetch(source: Path | str, folder: Path, dataset: str = "busi", phantom: PhantomParams = PHANTOM) -> list[str]:
    """The names of the files that came."""
    params = DatasetParams(source=str(source), duplicate_distance=4)
    fetch_source(get(dataset), params, phantom, folder, 1, ignore, f"datasets.{dataset}.source")
    return files(folder)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_copied_without_its_litter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_busi(tmp_path / "source", 2)
    wanted = files(source)
    write(source / "benign" / ".DS_1.jpg", b"Bud1")
    write(source / "captions.csv", b"label")
    with caplog.at_level("INFO"):
        assert fetch(source, tmp_path / "raw") == wanted
    assert "6 images" in caplog.text
    assert "2 other files left out" in caplog.text


def test_hard_names_stay_as_they_are(tmp_path: Path) -> None:
    source = make_classes(tmp_path / "source", DATASETS["busi"])
    for name in HARD_NAMES:
        write(source / "benign" / name, IMAGE)
    assert set(HARD_NAMES) <= {Path(name).name for name in fetch(source, tmp_path / "raw")}


def test_an_archive_is_unpacked(tmp_path: Path) -> None:
    source = make_busi(tmp_path / "source", 2)
    archive = shutil.make_archive(str(tmp_path / "busi"), "gztar", source)
    assert fetch(archive, tmp_path / "raw") == files(source)


def test_linked_images_are_copied_and_dead_links_left_out(tmp_path: Path) -> None:
    source = make_classes(tmp_path / "source", DATASETS["busi"])
    (source / "benign" / "link.png").symlink_to(source / "normal" / "normal_0.png")
    (source / "benign" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    names = fetch(source, tmp_path / "raw")
    assert "benign/link.png" in names
    assert "benign/dead.png" not in names
    assert not (tmp_path / "raw" / "benign" / "link.png").is_symlink()


def refused(tmp_path: Path) -> dict[str, tuple[Path | str, str]]:
    images = make_classes(tmp_path / "source", DATASETS["busi"])
    shutil.copytree(images, tmp_path / "two", ignore=shutil.ignore_patterns("normal"))
    (tmp_path / "none").mkdir()
    return {
        "address": (
            "ftp://example.org/busi.zip",
            r"datasets\.busi\.source: ftp://.*give the file's path",
        ),
        "absent": (tmp_path / "absent.zip", "no such file or folder; the set is at https://scholar"),
        "no class": (tmp_path / "two", "no folder with images named normal"),
        "no image": (tmp_path / "none", "no image of BUSI"),
        "hostile": (
            write(tmp_path / "h.zip", zipped({"benign/a.png": IMAGE, "../b.png": IMAGE})),
            "leads out of the folder",
        ),
        "around": (tmp_path, "holds the place it is to be copied to"),
    }


@pytest.mark.parametrize("case", ["address", "absent", "no class", "no image", "hostile", "around"])
def test_a_refused_source_leaves_what_was_there(tmp_path: Path, case: str) -> None:
    source, message = refused(tmp_path)[case]
    write(tmp_path / "data" / "raw" / "earlier.png", IMAGE)
    with pytest.raises(StudyError, match=message):
        fetch(source, tmp_path / "data" / "raw")
    assert files(tmp_path / "data") == ["raw/earlier.png"]


def test_a_phantom_of_every_set_is_drawn(tmp_path: Path) -> None:
    for name, spec in DATASETS.items():
        small = getattr(PHANTOM, name).model_copy(update={"images_per_class": 3, "width_px": 32})
        names = fetch("phantom", tmp_path / name, name, PHANTOM.model_copy(update={name: small}))
        assert "phantom.csv" in names
        assert {Path(file).parent.name for file in names} >= set(spec.classes)


AWKWARD = {
    "traversal": "leads out of the folder",
    "absolute_path": "leads out of the folder",
    "symlink": "is a link",
    "bomb_45MB": "over 200 times its size",
    "duplicate_names": "twice",
    "truncated": "damaged or incomplete",
    "html_error_page": "a web page",
    "mendeley_like_nested": "no folder with images named basophil",  # unpacked, but the sample holds some classes only
    "kaggle_like_double_top": "no folder with images named basophil",
    "no_top_folder": "no folder with images named basophil",
}


@pytest.mark.parametrize("name", AWKWARD)
def test_real_awkward_archives(samples: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match=AWKWARD[name]):
        fetch(samples / "awkward" / "zip" / f"{name}.zip", tmp_path / "raw", "pbc")
    assert not list(tmp_path.iterdir())


TABLE = b"file,class,patient\n1.png,ill,Anna-1\n2.png,well,Ben\n"


def fetch_own(tmp_path: Path, *tables: str, archive: bool = False, **keys: str) -> list[str]:
    """The tables that came, of a set of two images that holds `tables`."""
    source = tmp_path / "source"
    for name in tables:
        write(source / name, TABLE)
    for name in ("1.png", "2.png"):
        write(source / name, IMAGE)
    place = shutil.make_archive(str(tmp_path / "set"), "zip", source) if archive else str(source)
    params = DatasetParams.model_validate({"source": place, "duplicate_distance": 4, "kind": "folder", **keys})
    fetch_source(spec_of("mine", params), params, PHANTOM, tmp_path / "raw", 1, ignore, "datasets.mine.source")
    return [name for name in files(tmp_path / "raw") if not name.endswith(".png")]


@pytest.mark.parametrize("archive", [False, True])
@pytest.mark.parametrize(
    ("value", "tables", "came"),
    [
        ("INDEX.csv", ["index.csv", "notes.csv"], ["index.csv"]),
        ("list[1].csv", ["list[1].csv", "list1.csv"], ["list[1].csv"]),
        ("meta/t.csv", ["Meta/t.csv", "t.csv", "old/t.csv"], ["Meta/t.csv"]),
        ("./t.csv", ["meta/t.csv", "t.csv"], ["t.csv"]),
    ],
)
def test_a_table_in_the_set_comes_by_its_name_or_path(
    tmp_path: Path, value: str, tables: list[str], came: list[str], archive: bool
) -> None:
    assert fetch_own(tmp_path, *tables, table=value, archive=archive) == came


def test_a_table_outside_the_set_takes_the_place_of_its_like(tmp_path: Path) -> None:
    outside = write(tmp_path / "elsewhere" / "index.csv", TABLE.replace(b"1.png,ill", b"1.png,sick"))
    assert fetch_own(tmp_path, "meta/index.csv", "notes.csv", table=str(outside)) == ["index.csv"]
    assert (tmp_path / "raw" / "index.csv").read_bytes() == outside.read_bytes()


def test_a_table_that_is_nowhere_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"datasets\.mine\.table: meta/t\.csv: no such file, neither in the set nor"):
        fetch_own(tmp_path, "t.csv", "other/t.csv", table="meta/t.csv")


def test_a_fault_of_the_table_is_told_by_its_name_not_by_a_place_of_ours(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", b"file,class\n1.png,ill,well\n")
    with pytest.raises(StudyError, match=r"^t\.csv: line 2 has 3 cells"):
        fetch_own(tmp_path, table=str(tmp_path / "t.csv"))


def test_names_that_tell_who_the_patient_is_are_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("ANNA-1/a.png", "Ben/b.png"):
        write(tmp_path / "source" / name, IMAGE)
    write(tmp_path / "patients.csv", b"file,class,patient\na.png,ill,Anna-1\nb.png,well,Ben\n1.png,ill,Clara\n")
    fetch_own(tmp_path, table=str(tmp_path / "patients.csv"), groups="patient")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "mine: files called by their patient or group: 1; names go into every table and report, so rename files and "
        "folders first if nobody may know"
    ]


def test_dicom_files_without_suffix_are_copied_and_other_files_are_not(tmp_path: Path) -> None:
    source = make_classes(tmp_path / "source", DATASETS["busi"])
    write(source / "benign" / "IM000001", bytes(128) + b"DICM")
    write(source / "benign" / "README", bytes(200))
    assert fetch(source, tmp_path / "raw") == ["benign/IM000001", *(f"{n}/{n}_0.png" for n in DATASETS["busi"].classes)]


def test_what_was_fetched_stays_where_its_source_is_no_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_busi(tmp_path / "source", 2)
    before = fetch(source, tmp_path / "raw")
    shutil.rmtree(source)
    assert fetch(source, tmp_path / "raw") == before
    assert "is not here; the images that were fetched from it stay" in caplog.text
    (tmp_path / "raw" / before[0]).unlink()  # no longer what was fetched
    with pytest.raises(StudyError, match="no such file or folder"):
        fetch(source, tmp_path / "raw")
    with pytest.raises(StudyError, match="no such file or folder"):
        fetch(tmp_path / "another", tmp_path / "raw")
