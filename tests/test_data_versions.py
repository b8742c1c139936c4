"""Data are versioned by DVC: what a change makes stale, how two versions differ, how they travel and come back."""

import json
import re
import shutil
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
    git,
    object_name,
    shared_machine,
    status,
)
from tests.rings import draw, mask_of
from tests.study import ROOT, TINY, Study, make_study

pytestmark = pytest.mark.slow

TELLING_THE_TITLE = {"data/prepared/rings/audit.json", "data/audit/rings/audit.html"}
INDEX = "data/prepared/rings/index.csv"
NEW_IMAGES = {f"photos/{name}.png" for name in ("ring/100", "disc/101", "ring/102", "disc/103")}
NEW_MASKS = {mask_of(name) for name in NEW_IMAGES}
ALL_BUT_PUBLISH = ("report", "audit@rings")  # with what they wait for
DERIVED = ("preprocess", "audit", "finetune", "explain", "score", "report")  # all that is made from the raw files


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return shared_machine(tmp_path_factory)


@pytest.fixture
def copied(first: Study, tmp_path: Path) -> Study:
    """The first machine again, to be changed."""
    return copy_of(first, tmp_path / "copied")


@pytest.fixture(scope="module")
def grown(first: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four images of a new patient were added to the source, fetched and prepared, and not committed."""
    study = copy_of(first, tmp_path_factory.mktemp("grown") / "machine")
    add_images(study.folder.parent / "scans")
    study.run("dvc", "repro", "--force", "preprocess@rings")
    return study


def add_images(scans: Path) -> None:
    rng = np.random.default_rng(1)
    for name in sorted(NEW_IMAGES):
        image, shape = draw(Path(name).parent.name, rng)
        write(scans / name, encoded(image))
        write(scans / mask_of(name), encoded(shape.astype(np.uint8) * 255))
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
# DVC refuses a key that is absent, so `fetch` cannot name those of an entry that it reads: it depends on all of them.
ENTRY_CHANGED = {"fetch@rings", "preprocess@rings", "report"}
CHANGES: dict[str, tuple[Callable[[Study], None], set[str]]] = {
    "nothing": (lambda study: None, set()),
    "another source": (entry(source="../elsewhere"), ENTRY_CHANGED),
    "a hash beside the source": (entry(sha256="0" * 64), ENTRY_CHANGED),
    "a wider distance of duplicates": (entry(duplicate_distance=4), ENTRY_CHANGED),
    "another citation": (entry(citation="Somebody (2027)"), ENTRY_CHANGED),
    "another title": (entry(title="Hoops and plates"), ENTRY_CHANGED),
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
    assert set(status(copied)) == stale | {"publish"}


def test_no_model_notices_an_equal_copy_elsewhere_another_title_or_an_edit_in_data_raw(
    copied: Study, tmp_path: Path
) -> None:
    before = contents(copied)
    shutil.move(copied.folder.parent / "scans", tmp_path / "scans")
    entry(source=str(tmp_path / "scans"), title="Hoops and plates", citation="Somebody (2027)")(copied)
    ran = copied.repro("score@rings-swin", "audit@rings")
    assert ran == {"fetch@rings", "preprocess@rings", "audit@rings"}
    after = contents(copied)
    assert {name for name in after if after[name] != before[name]} == TELLING_THE_TITLE
    line_in("data/raw/rings/patients.csv")(copied)
    assert copied.repro("score@rings-swin", "audit@rings") == {"fetch@rings"}
    assert contents(copied) == after


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
    assert second.repro("--pull", *ALL_BUT_PUBLISH) == set()
    assert contents(second) == contents(first)
    assert status(second) == STATUS_WHEN_DONE


def test_pull_alone_brings_everything(first: Study, second: Study) -> None:
    second.run("dvc", "pull")
    assert contents(second) == contents(first)
    assert status(second) == STATUS_WHEN_DONE


def test_weights_pretrained_within_the_study_travel_in_git(tmp_path: Path) -> None:
    study = make_study(tmp_path / "first/checkout", TINY)
    shutil.copytree(ROOT / "data/pretrained", study.folder / "data/pretrained")
    study.run("dvc", "commit", "--force", "pretrain@deit")  # as made here: to make them takes long
    add_remote(study, str(tmp_path / "shelf"))
    commit(study)
    study.run("dvc", "push", "pretrain@deit")
    second = clone_of(study, tmp_path / "second")
    assert second.repro("--pull", "pretrain@deit") == set()
    assert contents(second, "data/pretrained") == contents(study, "data/pretrained")
    assert not list((tmp_path / "shelf").rglob("*.safetensors"))


def test_raw_files_may_stay_at_home(first: Study, second: Study, tmp_path: Path) -> None:
    narrow, home = tmp_path / "narrow", copy_of(first, tmp_path / "home")
    for study in (home, second):
        study.run("dvc", "remote", "add", "--local", "--default", "narrow", str(narrow))
    home.run("dvc", "push", *DERIVED)
    assert not any(b"Patient-" in path.read_bytes() for path in narrow.rglob("*") if path.is_file())
    second.run("dvc", "pull", *DERIVED)
    assert second.repro("--allow-missing", *ALL_BUT_PUBLISH) == set()
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
