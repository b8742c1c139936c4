"""A registry whose versions are four bytes of weights each: enough for aliases, tags and going back."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from mlflow.entities import LoggedModelStatus

from pipeline import registry, tracking
from pipeline.files import sha256_of
from pipeline.promotion.change import CHALLENGER, CHAMPION, Action, Move
from pipeline.promotion.state import state_of

NAME = "busi-classifier"
ROOT = Path(__file__).parents[2]

PROMOTING = """
import logging
import sys
from pathlib import Path
from pipeline import tracking
from pipeline.errors import RefusalError
from pipeline.promotion.moving import make_move
from tests.promotion.store import move_to

move = move_to(tracking.open_store(), *sys.argv[2:4])
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("filelock").setLevel(logging.DEBUG)
try:
    make_move(Path(sys.argv[1]), move)
except RefusalError as refusal:
    sys.exit(refusal.exit_code)
"""


@contextmanager
def registry_of(folder: Path, versions: int) -> Iterator[tracking.MlflowClient]:
    """Versions 1, 2, ... of busi-classifier; the store is the one of MLFLOW_TRACKING_URI while the block lasts."""
    with mock.patch.dict(os.environ, {tracking.URI_VARIABLE: f"sqlite:///{folder / 'mlflow.db'}"}):
        client = tracking.open_store()
        client.create_registered_model(NAME)
        experiment = tracking.experiment_id(client, "busi")
        for number in range(1, versions + 1):
            add_version(client, experiment, folder / f"weights {number}", f"w{number:03}")
        yield client


def add_version(client: tracking.MlflowClient, experiment: str, folder: Path, weights: str) -> None:
    file = folder / "artifacts" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_text(weights)
    model = client.create_logged_model(experiment, "vit", tags={registry.CHECKPOINT: sha256_of(file)})
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.create_model_version(NAME, f"models:/{model.model_id}", model_id=model.model_id)


def weights_of(client: tracking.MlflowClient, number: str) -> Path:
    model = registry.logged_model_of(client, client.get_model_version(NAME, number))
    assert model
    return Path(model.artifact_location.removeprefix("file://")) / "artifacts" / "model.safetensors"


@contextmanager
def damaged_weights(
    client: tracking.MlflowClient, number: str, damage: Callable[[Path], object] = Path.unlink
) -> Iterator[None]:
    """The version's weights as `damage` leaves them, for the time of the block."""
    weights = weights_of(client, number)
    kept = weights.read_bytes()
    damage(weights)
    try:
        yield
    finally:
        weights.write_bytes(kept)


def clear(client: tracking.MlflowClient) -> None:
    """No alias, and no sign of an earlier move."""
    for alias in registry.aliases_of(client, NAME):
        client.delete_registered_model_alias(NAME, alias)
    for key in registry.model_tags(client, NAME):
        client.delete_registered_model_tag(NAME, key)


def move_to(
    client: tracking.MlflowClient,
    champion: str,
    challenger: str | None,
    action: Action = "promote",
    why: str = "better",
) -> Move:
    """From the aliases as they are."""
    state = state_of(client, NAME)
    return Move(
        model_name=NAME, dataset="busi", action=action, alias=CHAMPION, decision=None,
        before=state.holders(state.numbers(CHAMPION, CHALLENGER)),
        after=state.holders({CHAMPION: champion, CHALLENGER: challenger}),
        by="Ada", at="2026-01-01T00:00:00+00:00", why=why,
    )  # fmt: skip


@contextmanager
def promoting(log: Path, champion: str, challenger: str) -> Iterator[subprocess.Popen]:
    """A process that has decided on the aliases as they are, and waits for the lock."""
    command = [sys.executable, "-c", PROMOTING, str(log), champion, challenger]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert any(" not acquired on " in line for line in process.stdout), "it did not wait"
        yield process
