"""A study that is killed again and again ends with the bytes, the lock file and the MLflow store of one that is not.

It runs where KILLS says how often, KILLS_SEED where; `make test-kills` kills 20 times.
"""

import json
import os
import random
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from unittest import mock

import psutil
import pytest
import yaml

from flows.processes import lives
from pipeline import tracking
from pipeline.files import PARTIAL_SUFFIX
from tests.machines import STATUS_WHEN_DONE, contents, copy_of, shared_machine, status
from tests.study import Study, study_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("KILLS" not in os.environ, reason="takes minutes: make test-kills"),
]

KILLS = int(os.environ.get("KILLS", "0"))
SEED = int(os.environ.get("KILLS_SEED", "0"))
FROM_THE_START = KILLS > 9  # else from the heatmaps on: the stages before take longest

REPRO, STUDY = ("dvc", "repro"), ("flows.study", "--workers", "1")
PARTS = ("all", "stage", "starter")  # every process of the study; that of the stage; DVC, or what runs it
LATE = ("explain", "score", "report", "publish")
FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")  # the last of a stage that was planned and not begun
STAGE_S = 4.0  # of a stage here, with the start of Python before and DVC's own work behind it


@dataclass
class Killer:
    """Starts the study and kills it, or a part of it, at a moment drawn by the seed."""

    study: Study
    draw: random.Random
    families: set[psutil.Process] = field(default_factory=set)

    def strike(self) -> str:
        """One kill; what was killed when comes back."""
        command, part = self.draw.choice((REPRO, REPRO, STUDY)), self.draw.choice(PARTS)
        begun, after_s = self.draw.choice((0, 1, 1, 2)), self.draw.uniform(0, STAGE_S)
        with self._started(command) as run:
            stage = self._wait_for_stage(run, begun)
            sleep_while(run, after_s)
            family = [*run.children(recursive=True), run]
            self.families |= set(family)
            now = next(filter(None, map(stage_of, family)), "between stages")
            stages = [each for each in family if stage_of(each)]
            for process in {"all": family, "stage": stages or family, "starter": [run]}[part]:
                kill(process)
        return f"{command[0]:12} {part:8} {after_s:.1f} s after {stage} began: {now}"

    @contextmanager
    def _started(self, command: tuple[str, ...]) -> Iterator[psutil.Process]:
        with (self.study.folder / "killed.log").open("ab") as log:
            run = psutil.Popen(
                [sys.executable, "-m", *command], cwd=self.study.folder, env=study_environment(), stdout=log, stderr=log
            )
            yield run
            run.wait()

    def _wait_for_stage(self, run: psutil.Process, wanted: int) -> str:
        """Until the wanted number of stages has begun, or the study ended; the last that began."""
        seen: list[str] = []
        while len(seen) < wanted and lives(run):
            seen += [name for name in map(stage_of, run.children(recursive=True)) if name and name not in seen]
            time.sleep(0.02)
        return seen[-1] if seen else "the study"


def sleep_while(run: psutil.Process, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and lives(run):
        time.sleep(0.02)


def words_of(process: psutil.Process) -> list[str]:
    """Of its command line; none of a process that is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def stage_of(process: psutil.Process) -> str:
    """`finetune`, if the process is that of a stage; else nothing."""
    words = words_of(process)
    named = [word.removeprefix("flows.") for word in words if word.startswith("flows.")]
    return named[0] if named and named[0] != "study" and "-c" not in words else ""


def kill(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.kill()


def unmake(study: Study) -> None:
    """Takes away what stages made, the memory of it too, and the MLflow store."""
    lock = yaml.safe_load((study.folder / "dvc.lock").read_text())
    gone = [name for name in lock["stages"] if FROM_THE_START or name.startswith(LATE)]
    for name in gone:
        for out in lock["stages"].pop(name).get("outs", []):
            path = study.folder / out["path"]
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (study.folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(study.folder / ".dvc/cache/runs")
    shutil.rmtree(study.folder / "mlartifacts")
    (study.folder / "mlflow.db").unlink()


def published(study: Study) -> dict:
    """What MLflow holds, without ids and times."""
    with mock.patch.dict(os.environ, MLFLOW_TRACKING_URI=f"sqlite:///{study.folder}/mlflow.db"):
        client = tracking.open_store()
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs, versions = client.search_runs(experiments), client.search_model_versions()
    models = client.search_logged_models(experiments)
    return {
        "runs": sorted((run.info.run_name, run.info.status, run.data.tags["current"]) for run in runs),
        "metrics": {run.info.run_name: run.data.metrics for run in runs},
        "versions": [(v.name, v.version, v.tags["checkpoint_sha256"], v.tags["content_hash"]) for v in versions],
        "models": [(model.name, model.status.value, sorted(model.tags)) for model in models],
    }


def running_in_prefect(study: Study) -> list[str]:
    """Flow runs and tasks without a final state, as the server's own database has them when it has caught up."""
    for _ in range(100):
        with sqlite3.connect(study.folder / ".prefect/prefect.db") as database:
            found = [
                name
                for table in ("flow_run", "task_run")
                for name, state in database.execute(f"select name, state_type from {table}")
                if state not in FINAL
            ]
        if not found:
            break
        time.sleep(0.2)
    return found


def finish(study: Study) -> None:
    """As a user would: again, and by the study where DVC says that its own file is broken."""
    if study.run("dvc", "repro", check=False).returncode:
        print("dvc repro: refused; python -m flows.study goes on")
    study.run(*STUDY)


def test_a_study_that_is_killed_again_and_again_ends_as_one_that_is_not(tmp_path_factory):
    undisturbed = shared_machine(tmp_path_factory)
    study = copy_of(undisturbed, tmp_path_factory.mktemp("killed") / "machine")
    unmake(study)
    killer = Killer(study, random.Random(SEED))
    for number in range(KILLS):
        print(number + 1, killer.strike(), flush=True)
    working = {each for each in killer.families if "prefect" not in words_of(each)}
    assert psutil.wait_procs(working, timeout=40)[1] == []
    finish(study)
    assert psutil.wait_procs(killer.families, timeout=40)[1] == []  # the study took over the server of a killed one
    assert contents(study) == contents(undisturbed)
    assert lock_of(study) == lock_of(undisturbed)
    assert status(study) == STATUS_WHEN_DONE
    assert published(study) == published(undisturbed)
    assert [path for path in study.folder.rglob(f"*{PARTIAL_SUFFIX}") if ".venv" not in path.parts] == []
    assert running_in_prefect(study) == []
    assert not any(json.loads((study.folder / ".dvc/tmp/rwlock").read_text()).values())


def lock_of(study: Study) -> dict:
    return yaml.safe_load((study.folder / "dvc.lock").read_text())
