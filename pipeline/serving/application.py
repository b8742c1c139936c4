"""A registered version over HTTP: MLflow's own scoring server behind limits, with errors in one line.

The protocol is MLflow's (/invocations, /ping, /health, /version), so its clients and its documentation apply.
"""

import os
import socket
from contextlib import suppress
from dataclasses import dataclass

import mlflow.pyfunc
import uvicorn
from mlflow.pyfunc import PyFuncModel, scoring_server

from pipeline.errors import StudyError
from pipeline.registry import aliases_of, model_name, versions_of
from pipeline.serving.gate import Gate
from pipeline.tracking import URI_VARIABLE, open_store, tracking_uri


@dataclass(frozen=True)
class ServedVersion:
    """A version, settled once: an alias that moves later does not change what a server answers with."""

    name: str
    number: str


@dataclass(frozen=True)
class ServedModel:
    version: ServedVersion
    model: PyFuncModel
    checkpoint_sha256: str  # of the weights that answer

    def __str__(self) -> str:
        return f"version {self.version.number} of {self.version.name} (checkpoint {self.checkpoint_sha256})"

    @property
    def headers(self) -> dict[str, str]:
        version = f"{self.version.name}/{self.version.number}"
        return {"X-Model-Version": version, "X-Checkpoint-SHA256": self.checkpoint_sha256}


def find_served(dataset: str, alias: str, number: int | None) -> ServedVersion:
    """Version `number` of the dataset's model, else the one of the alias.

    Raises:
        StudyError: there is none.
    """
    client, name = open_store(), model_name(dataset)
    found = aliases_of(client, name).get(alias) if number is None else str(number)
    if found is None or found not in {str(version.version) for version in versions_of(client, name)}:
        wanted = f"alias {alias}" if number is None else f"version {number}"
        remedy = f"promote one with `python -m flows.promote --dataset {dataset}`"
        raise StudyError(f"{name}: {wanted} is not in the registry; {remedy}")
    return ServedVersion(name, found)


def load_served(version: ServedVersion) -> ServedModel:
    """
    Raises:
        StudyError: the weights are not those of the receipt that is kept beside them.
    """
    os.environ.setdefault(URI_VARIABLE, tracking_uri())  # MLflow finds the model by its own settings
    model = mlflow.pyfunc.load_model(f"models:/{version.name}/{version.number}")
    return ServedModel(version, model, model.unwrap_python_model().lineage.checkpoint_sha256)


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; a fault of the address shows before a model is loaded.

    Raises:
        StudyError: the address is taken, or is none of this machine's.
    """
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise StudyError(f"{host}:{port}: {error.strerror}; choose another --host or --port") from None


def run(served: ServedModel, listener: socket.socket) -> None:
    """Until the process is told to stop."""
    application = Gate(scoring_server.init(served.model), served.headers)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(uvicorn.Config(application, log_level="warning")).run([listener])
