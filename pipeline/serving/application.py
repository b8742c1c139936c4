"""A registered version over HTTP: MLflow's own scoring server behind limits, with errors in one line.

The protocol is MLflow's (/invocations, /ping, /health, /version), so its clients and its documentation apply.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass

import mlflow.pyfunc
import uvicorn
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server
from starlette.types import ASGIApp

from pipeline.errors import StudyError
from pipeline.registry import CHECKPOINT
from pipeline.serving.gate import Gate
from pipeline.serving.mlflow_server import mend_errors
from pipeline.tracking import open_store, tracking_uri


@dataclass(frozen=True)
class ServedVersion:
    """A version, settled once: an alias that moves later does not change what a server answers with."""

    name: str
    number: str
    checkpoint_sha256: str

    def __str__(self) -> str:
        return f"version {self.number} of {self.name} (checkpoint {self.checkpoint_sha256})"

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Model-Version": f"{self.name}/{self.number}", "X-Checkpoint-SHA256": self.checkpoint_sha256}


def find_served(dataset: str, alias: str, number: int | None) -> ServedVersion:
    """Version `number` of the dataset's model, else the one of the alias.

    Raises:
        StudyError: there is none.
    """
    name = f"{dataset}-classifier"
    version = _version(name, alias, number)
    return ServedVersion(name, str(version.version), version.tags.get(CHECKPOINT, "unknown"))


def _version(name: str, alias: str, number: int | None) -> ModelVersion:
    client = open_store()
    try:
        if number is None:
            return client.get_model_version_by_alias(name, alias)
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        wanted = f"alias {alias}" if number is None else f"version {number}"
        remedy = f"promote one with `python -m flows.promote --dataset {name.removesuffix('-classifier')}`"
        raise StudyError(f"{name}: {wanted} is not in the registry; {remedy}") from error


def make_application(served: ServedVersion) -> ASGIApp:
    mlflow.set_tracking_uri(tracking_uri())
    mend_errors()
    model = mlflow.pyfunc.load_model(f"models:/{served.name}/{served.number}")
    return Gate(scoring_server.init(model), served.headers)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; a fault of the address shows before a model is loaded.

    Raises:
        StudyError: the address is taken, or is none of this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise StudyError(f"{host}:{port}: {error.strerror}; choose another --host or --port") from None


def run(application: ASGIApp, listener: socket.socket) -> None:
    """Until the process is told to stop."""
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(application, log_level="warning")).run([listener])
