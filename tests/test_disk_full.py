"""On a full disk a stage ends in one line that names the file, leaves nothing half-written, and can be run again."""

import os
import re
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path
from unittest import mock

import pytest

from flows.audit import audit
from flows.explain import explain
from flows.finetune import finetune
from flows.options import main
from flows.preprocess import preprocess
from flows.report import report
from flows.score import score
from pipeline.files import PARTIAL_SUFFIX
from tests.machines import contents, copy_of, shared_machine
from tests.ports import free_port

pytestmark = pytest.mark.slow

SIZE_MIB, LEFT_BYTES = 64, 24 * 1024
DATASET, CELL = ["--dataset", "rings"], ["--dataset", "rings", "--model", "swin"]
STAGES = [  # but fetch, which looks for room before it begins
    (preprocess, DATASET),
    (audit, DATASET),
    (finetune, CELL),
    (explain, CELL),
    (score, CELL),
    (report, []),
]


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A small disk of its own."""
    folder = tmp_path_factory.mktemp("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def study(disk, tmp_path_factory):
    """A finished study on the disk, without a Prefect server and with its own MLflow store, which is not made yet."""
    study = copy_of(shared_machine(tmp_path_factory), disk / "machine")
    shutil.rmtree(study.folder / "mlartifacts")
    (study.folder / "mlflow.db").unlink()
    muted = {name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_"))}
    others = {name: value for name, value in os.environ.items() if name not in muted}
    address = f"http://127.0.0.1:{free_port()}/api"
    with chdir(study.folder), mock.patch.dict(os.environ, others | {"PREFECT_API_URL": address}, clear=True):
        yield study


@pytest.mark.parametrize(("flow", "arguments"), STAGES, ids=[flow.name for flow, _ in STAGES])
def test_a_stage_on_a_full_disk_ends_in_one_line_and_is_whole_when_run_again(flow, arguments, study, disk, capsys):
    before = contents(study)
    with mock.patch("sys.argv", [flow.name, *arguments]):
        with filled(disk), pytest.raises(SystemExit) as end:
            main(flow)
        assert end.value.code == 2
        assert_one_line(capsys.readouterr().err)
        assert list(disk.rglob(f"*{PARTIAL_SUFFIX}")) == []
        main(flow)
    assert contents(study) == before


def test_publishing_on_a_full_disk_is_one_line_too_and_then_is_done(study, disk):
    with filled(disk):
        run = study.run("flows.publish", check=False)
    assert run.returncode == 2
    assert_one_line(run.stderr)
    assert not (study.folder / "mlflow.db").exists()
    study.run("flows.publish")
    assert "MLflow and the files agree" in study.run("flows.publish", "--check").stdout


def assert_one_line(told: str) -> None:
    assert re.fullmatch(r"error: .*no space left.*", told.splitlines()[-1]), told
    assert "Traceback" not in told


class filled:
    """A disk on which all but LEFT_BYTES are taken, for the time of the block."""

    def __init__(self, disk: Path) -> None:
        self.disk, self.filler = disk, disk / "filler"

    def __enter__(self) -> None:
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(self.disk).free - LEFT_BYTES)

    def __exit__(self, *error: object) -> None:
        self.filler.unlink()
