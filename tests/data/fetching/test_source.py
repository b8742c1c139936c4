"""Bringing a set to its folder: whole or not at all."""

import shutil
from pathlib import Path

import pytest

from pipeline.data import DATASETS, get
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
