"""Data are versioned by DVC: what a change makes stale, how two versions differ, how they travel and come back."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.sets import encoded, write
from tests.machines import (
    CHECKPOINT,
    STATUS_WHEN_DONE,
    add_remote,
    clone_of,
    commit,
    contents,
    copy_of,
    damaged,
    first_machine,
    git,
    object_name,
    stages_run,
    status,
)
from tests.study import ROOT, TINY, Study, make_study
from tests.test_own_set import draw

pytestmark = pytest.mark.slow

INDEX = "data/prepared/rings/index.csv"
NEW_IMAGES = {f"photos/{name}.png" for name in ("ring/100", "disc/101", "ring/102", "disc/103")}
NEW_MASKS = {name.replace("photos", "outlines") for name in NEW_IMAGES}
DERIVED = ("preprocess", "audit", "finetune", "explain", "score", "report")  # all that is made from the raw files


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return first_machine(tmp_path_factory.mktemp("first"))


@pytest.fixture
def copied(first: Study, tmp_path: Path) -> Study:
    """The first machine again, to be changed."""
    return copy_of(first, tmp_path / "copied")


@pytest.fixture(scope="module")
def grown(first: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four images of a new patient were added to the source, fetched and prepared, and not committed."""
    study = copy_of(first, tmp_path_factory.mktemp("grown") / "machine")
    add_images(study.folder.parent / "scans")
    study.run("dvc", "repro", "--force", "fetch@rings")
    study.run("dvc", "repro", "preprocess@rings")
    return study


@pytest.fixture(scope="module")
def shelved(first: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The first machine after `dvc push` to a folder, which its commit names."""
    folder = tmp_path_factory.mktemp("shelved")
    study = copy_of(first, folder / "machine")
    add_remote(study, str(folder / "shelf"))
    study.run("dvc", "push")
    commit(study)
    return study


@pytest.fixture
def second(shelved: Study, tmp_path: Path) -> Study:
    """Another machine, which has neither the source nor a cache."""
    return clone_of(shelved, tmp_path / "second")


def add_images(scans: Path) -> None:
    rng = np.random.default_rng(1)
    for name in sorted(NEW_IMAGES):
        image, shape = draw(Path(name).parent.name, rng)
        write(scans / name, encoded(image))
        write(scans / name.replace("photos", "outlines"), encoded(shape.astype(np.uint8) * 255))
    added = pd.DataFrame({"file": sorted(NEW_IMAGES), "patient_id": "Patient-new"})
    pd.concat([pd.read_csv(scans / "patients.csv"), added]).to_csv(scans / "patients.csv", index=False)


def entry(**changes: object) -> Callable[[Study], None]:
    """A change of the set's entry in params.yaml."""
    return lambda study: study.edit(lambda tree: tree["datasets"]["rings"].update(changes))


def image_size(study: Study) -> None:
    study.edit(lambda tree: tree["preprocess"].update(image_size_px=48))


def line_in(name: str) -> Callable[[Study], None]:
    """A comment at the end of a file, seen from the checkout."""

    def append(study: Study) -> None:
        with (study.folder / name).open("a") as file:
            file.write("# a remark\n")

    return append


# The report prints params.yaml, so any change in it concerns the report.
ENTRY_CHANGED = {"fetch@rings", "preprocess@rings", "report"}
CHANGES: dict[str, tuple[Callable[[Study], None], set[str]]] = {
    "nothing": (lambda study: None, set()),
    "another source": (entry(source="../elsewhere"), ENTRY_CHANGED),
    "a hash beside the source": (entry(sha256="0" * 64), ENTRY_CHANGED),
    "a wider distance of duplicates": (entry(duplicate_distance=4), ENTRY_CHANGED),
    "the images' size": (image_size, {"preprocess@rings", "report"}),
    "a file edited in data/raw": (
        line_in("data/raw/rings/patients.csv"),
        {"fetch@rings", "preprocess@rings", "audit@rings"},
    ),
    "a file of the source, under the same path": (line_in("../scans/patients.csv"), set()),
    "code that explains": (line_in("pipeline/explain/gradcam.py"), {"explain@rings-swin", "score@rings-swin"}),
    "a comment in params.yaml": (line_in("params.yaml"), set()),
}


@pytest.mark.parametrize(("change", "stale"), CHANGES.values(), ids=CHANGES)
def test_a_change_concerns_the_stages_that_read_it_and_publish_always_looks(
    copied: Study, change: Callable[[Study], None], stale: set[str]
) -> None:
    change(copied)
    assert stages_run(copied, "--dry") == stale | {"publish"}


def test_an_equal_copy_elsewhere_is_fetched_and_prepared_and_no_model_notices(copied: Study, tmp_path: Path) -> None:
    shutil.move(copied.folder.parent / "scans", tmp_path / "scans")
    entry(source=str(tmp_path / "scans"))(copied)
    before = contents(copied)
    assert stages_run(copied, "score@rings-swin", "audit@rings") == {"fetch@rings", "preprocess@rings"}
    assert contents(copied) == before


def test_an_edit_in_data_raw_is_undone(copied: Study) -> None:
    before = contents(copied)
    line_in("data/raw/rings/patients.csv")(copied)
    assert stages_run(copied, "score@rings-swin", "audit@rings") == set()
    assert contents(copied) == before


def test_new_images_concern_all_that_is_made_of_images(grown: Study) -> None:
    assert set(status(grown)) == {
        "audit@rings",
        "finetune@rings-swin",
        "explain@rings-swin",
        "score@rings-swin",
        "report",
        "publish",
    }


def test_dvc_diff_names_the_new_files_and_the_changed_tables(first: Study, grown: Study) -> None:
    before, after = (contents(study, "data/raw", "data/prepared") for study in (first, grown))
    told = json.loads(grown.run("dvc", "diff", "--json").stdout)
    told = {kind: {Path(row["path"]).as_posix() for row in rows} for kind, rows in told.items()}
    assert (
        told["added"] == after.keys() - before.keys() == {f"data/raw/rings/{name}" for name in NEW_IMAGES | NEW_MASKS}
    )
    assert told["deleted"] == told["renamed"] == set()
    changed = {name for name, value in before.items() if after[name] != value}
    assert told["modified"] == changed | {"data/raw/rings", "data/prepared/rings"}
    assert {"data/raw/rings/patients.csv", INDEX, "data/prepared/rings/images.npy"} <= changed


def test_two_versions_of_the_index_differ_by_readable_rows(grown: Study, tmp_path: Path) -> None:
    old = tmp_path / "index.csv"
    grown.run("dvc", "get", ".", INDEX, "--rev", "HEAD", "--out", str(old))
    shown = git(grown, "diff", "--no-index", str(old), INDEX, ends_with=[1])
    gone, come = (set(re.findall(rf"^\{sign}\d+,([^,]+),", shown, re.MULTILINE)) for sign in "-+")
    assert come - gone == NEW_IMAGES
    assert gone <= come


def test_an_older_commit_comes_back_with_its_data(first: Study, grown: Study, tmp_path: Path) -> None:
    study = copy_of(grown, tmp_path / "machine")
    commit(study)
    git(study, "checkout", "--quiet", "HEAD~1")
    study.run("dvc", "checkout")
    assert contents(study) == contents(first)
    assert status(study) == STATUS_WHEN_DONE


def test_a_second_machine_pulls_and_has_nothing_to_run_but_publish(first: Study, second: Study) -> None:
    assert stages_run(second, "--pull") == {"publish"}
    assert contents(second) == contents(first)


def test_pull_alone_brings_everything(first: Study, second: Study) -> None:
    second.run("dvc", "pull")
    assert contents(second) == contents(first)
    assert status(second) == STATUS_WHEN_DONE


def test_weights_pretrained_within_the_study_travel_in_git(tmp_path: Path) -> None:
    study = make_study(tmp_path / "first/checkout", TINY)
    study.run("dvc", "repro", "pretrain@deit")
    add_remote(study, str(tmp_path / "shelf"))
    commit(study)
    study.run("dvc", "push", "pretrain@deit")
    second = clone_of(study, tmp_path / "second")
    assert stages_run(second, "--pull", "pretrain@deit") == set()
    assert contents(second, "data/pretrained") == contents(study, "data/pretrained")
    assert not list((tmp_path / "shelf").rglob("*.safetensors"))


def test_raw_files_may_stay_at_home(first: Study, second: Study, tmp_path: Path) -> None:
    narrow, home = tmp_path / "narrow", copy_of(first, tmp_path / "home")
    for study in (home, second):
        study.run("dvc", "remote", "add", "--local", "--default", "narrow", str(narrow))
    home.run("dvc", "push", *DERIVED)
    assert not any(b"Patient-" in path.read_bytes() for path in narrow.rglob("*") if path.is_file())
    second.run("dvc", "pull", *DERIVED)
    assert stages_run(second, "--allow-missing") == {"publish"}
    assert not (second.folder / "data/raw").exists()


def test_a_damaged_file_of_the_cache_is_named_not_used_and_pulled_again(second: Study) -> None:
    second.run("dvc", "pull", "finetune")
    checkpoint = second.folder / CHECKPOINT
    content = checkpoint.read_bytes()
    cached = second.folder / ".dvc/cache" / object_name(content)
    cached.chmod(0o644)
    cached.write_bytes(damaged(content))
    checkpoint.unlink()
    found = status(second, "finetune@rings-swin")["finetune@rings-swin"]
    assert {"changed outs": {CHECKPOINT: "not in cache"}} in found
    refused = second.run("dvc", "checkout", "finetune", check=False)
    assert (refused.returncode, CHECKPOINT in refused.stderr, checkpoint.exists()) == (255, True, False)
    second.run("dvc", "pull", "finetune")
    assert checkpoint.read_bytes() == content


def test_damage_that_dvc_overlooks_is_found_by_the_line_of_the_page(second: Study) -> None:
    """Where nothing is overlooked any more, the line in docs/data.md is no longer needed."""
    second.run("dvc", "pull", "finetune")
    content = (second.folder / CHECKPOINT).read_bytes()
    cached = second.folder / ".dvc/cache" / object_name(content)
    told = status(second, "finetune")
    assert check_by_hand(second) == (0, "")
    cached.chmod(0o644)
    cached.write_bytes(damaged(content))
    cached.chmod(0o444)  # DVC takes a read-only file of its cache for whole
    assert status(second, "finetune") == told
    code, said = check_by_hand(second)
    assert code == 1
    assert said == f"./{object_name(content).removeprefix('files/md5/')}: FAILED\n"


def check_by_hand(study: Study) -> tuple[int, str]:
    """What the shell block of docs/data.md that reads a whole cache ends with and prints."""
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (lines,) = (block for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if "md5sum" in block)
    done = subprocess.run(["bash", "-c", lines], cwd=study.folder, capture_output=True, text=True)
    return done.returncode, done.stdout


def test_a_damaged_object_of_the_remote_is_refused(shelved: Study, second: Study, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shutil.copytree(shelved.folder.parents[1] / "shelf", shelf)
    kept = shelf / object_name((shelved.folder / CHECKPOINT).read_bytes())
    kept.chmod(0o644)
    kept.write_bytes(damaged(kept.read_bytes()))
    kept.chmod(0o444)
    second.run("dvc", "remote", "modify", "--local", "shelf", "url", str(shelf))
    refused = second.run("dvc", "pull", check=False)
    assert (refused.returncode, CHECKPOINT in refused.stderr) == (1, True)
    expected = contents(shelved)
    del expected[CHECKPOINT]
    assert contents(second) == expected


@pytest.mark.parametrize("listing_deleted", [False, True])
def test_one_file_of_a_folder_is_pushed_again_once_its_listing_is_gone(
    shelved: Study, tmp_path: Path, listing_deleted: bool
) -> None:
    """Where False pushes too, docs/data.md need not speak of listings."""
    study, shelf = copy_of(shelved, tmp_path / "machine"), tmp_path / "shelf"
    shutil.copytree(shelved.folder.parents[1] / "shelf", shelf)
    study.run("dvc", "remote", "modify", "shelf", "url", str(shelf))
    study.run("dvc", "push")
    kept = shelf / object_name((study.folder / "data/raw/rings/photos/ring/0.png").read_bytes())
    kept.unlink()
    for listing in shelf.rglob("*.dir") if listing_deleted else ():
        if kept.parent.name + kept.name in listing.read_text():
            listing.unlink()
    study.run("dvc", "push")
    assert kept.exists() == listing_deleted
