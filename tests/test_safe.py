"""What a stranger's file or a neighbour on the network could do, and what the project stands on."""

import pickle
import re
import tomllib
from pathlib import Path

import pytest
import torch

from pipeline.errors import StudyError
from pipeline.models.checkpoint import load_checkpoint
from tests.models.tiny import build

ROOT = Path(__file__).parents[1]
PROGRAMS = ["Makefile", "dvc.yaml", "params.yaml", "prefect.yaml", ".dvc/config"]
FOLDERS = ["flows", "pipeline", "params", "deploy"]
PAGE = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNS_CODE = (
    r"\b(pickle|joblib|dill|cloudpickle)\.loads?\(|\btorch\.load\(|allow_pickle=True"
    r"|\byaml\.(unsafe_load|full_load|Loader|UnsafeLoader|FullLoader)\b"
)


def our_files() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    texts = [path for path in inside if path.suffix not in (".pyc", ".npz")]
    return [path for path in [*map(ROOT.joinpath, PROGRAMS), *texts] if path.exists()]


@pytest.mark.parametrize(
    "pattern", [r"0\.0\.0\.0", r"\[?::\]?:\d", RUNS_CODE], ids=["listens", "listens6", "unpickles"]
)
def test_no_program_listens_for_everybody_or_reads_what_may_run_code(pattern):
    assert [path for path in our_files() if re.search(pattern, path.read_text(encoding="utf-8"))] == []


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def pickled(path: Path, evil: Evil) -> None:
    path.write_bytes(pickle.dumps({"pos_embed": evil}))


def saved_by_torch(path: Path, evil: Evil) -> None:
    torch.save({"pos_embed": evil}, path)


@pytest.mark.parametrize("write", [pickled, saved_by_torch])
def test_a_model_that_is_a_pickle_under_a_harmless_name_is_refused_and_not_run(write, tmp_path):
    write(tmp_path / "model.safetensors", Evil(tmp_path / "was run"))
    with pytest.raises(StudyError, match=r"model\.safetensors: damaged") as refusal:
        load_checkpoint(tmp_path / "model.safetensors")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ".npz"])
@pytest.mark.parametrize("write", [pickled, saved_by_torch])
def test_weights_that_are_a_pickle_are_refused_and_not_run(write, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    write(path, Evil(tmp_path / "was run"))
    with pytest.raises(StudyError, match=rf"weights\{suffix}: damaged") as refusal:
        build("vit", weights=str(path))
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "was run").exists()


def required() -> set[str]:
    """The names of all direct dependencies, extras included."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {one_name(re.match(r"[\w.-]+", line)[0]) for group in lists for line in group}


def one_name(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    parts = [line.split("==") for line in lines if "==" in line and not line.startswith("#")]
    return {one_name(name): version.split(";")[0].strip() for name, version in parts}


def test_every_dependency_stands_in_the_page_with_its_pin_and_nothing_else_does():
    rows = re.findall(r"^\| `([\w-]+)` \|(?:[^|]*\|){3} ([\w.+]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    assert dict(rows) == {name: pins().get(name, "not pinned") for name in required()}
