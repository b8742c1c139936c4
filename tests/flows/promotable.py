"""A published study in miniature with versions to choose from, commands run in its folder, and a human who answers."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pandas as pd
import yaml
from httpx import HTTPStatusError
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound

from pipeline import registry
from pipeline.promotion.state import FINISHED
from tests.cells import PublishedStudy, give_checkpoint, published_study

ROOT = Path(__file__).parents[2]
NAME = "busi-classifier"
BOUND = {"metric": "test/accuracy", "at_least": 0.5}


@contextmanager
def promotable_study(folder: Path) -> Iterator[PublishedStudy]:
    """Versions 1 and 2 of busi-classifier have an accuracy of 0.75, version 3 is always wrong."""
    with published_study(folder) as study:
        give_checkpoint(study.data, "busi", "vit", seed=1)
        study.publish()
        make_wrong(study.data / "models/busi/vit/predictions.csv")
        give_checkpoint(study.data, "busi", "vit", seed=2)
        study.publish()
        give_policy(folder, BOUND)
        yield study


def make_wrong(predictions: Path) -> None:
    table = pd.read_csv(predictions)
    table.assign(predicted=(table["label"] + 1) % 3, correct=False).to_csv(predictions, index=False)


def give_policy(folder: Path, *conditions: dict) -> None:
    """The shipped params.yaml with another policy."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    policy = {"min_images": 2, "resamples": 100, "conditions": list(conditions), "ranking": ["test/accuracy"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree | {"promotion": policy}), encoding="utf-8")


def forget_promotions(study: PublishedStudy) -> None:
    """No alias, no log."""
    for alias in registry.aliases_of(study.client, NAME):
        study.client.delete_registered_model_alias(NAME, alias)
    if FINISHED in registry.model_tags(study.client, NAME):
        study.client.delete_registered_model_tag(NAME, FINISHED)
    study.promotion_log.unlink(missing_ok=True)


@contextmanager
def started(study, api, module, *options):
    """A command in a process of its own that reports to the server."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": api, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *options],
        cwd=study.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def wait_for(look, timeout_s=120):
    """What `look` finds at last."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.3)
    raise AssertionError(f"nothing within {timeout_s} s")


def question_to_a_human(client):
    """The paused run and what its form shows; that is written a moment after the pause, and only then it can resume."""
    for run in client.read_flow_runs():
        if run.state_name == "Paused":
            keys = run.state.state_details.run_input_keyset
            with suppress(ObjectNotFound, HTTPStatusError):
                return run, client.read_flow_run_input(run.id, keys["description"])
    return None


def answer(client, run, **given):
    assert client.resume_flow_run(run.id, run_input=given).status == SetStateStatus.ACCEPT
