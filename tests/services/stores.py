"""The stores that docs/mlflow.md names, each real, each empty, for as long as a block lasts.

Each yields the variables that a client of it sets, and nothing else.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.services.servers import mlflow_server, mlflow_server_of_make_ui, postgresql, s3_server, started

BUCKET = "study"
DATABASE = "mlflow"


@contextmanager
def sqlite_behind_make_ui(folder: Path) -> Iterator[Mapping[str, str]]:
    """Artifacts go to the folder beside the database, by the client's own hand."""
    with mock.patch.dict(os.environ):
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_DEFAULT_ARTIFACT_ROOT"):
            os.environ.pop(name, None)
        with started(mlflow_server_of_make_ui(), folder) as address:
            yield {"MLFLOW_TRACKING_URI": address}


@contextmanager
def sqlite_behind_a_server(folder: Path) -> Iterator[Mapping[str, str]]:
    """Artifacts go through the server."""
    server = mlflow_server(f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri())
    with started(server, folder) as address:
        yield {"MLFLOW_TRACKING_URI": address}


@contextmanager
def postgresql_and_s3(folder: Path) -> Iterator[Mapping[str, str]]:
    """No MLflow server between the client and the two."""
    with database() as tracking_uri, bucket(folder) as variables:
        yield {**variables, "MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKET}"}


@contextmanager
def postgresql_and_s3_behind_a_server(folder: Path) -> Iterator[Mapping[str, str]]:
    """Only the server knows of the bucket and holds its keys."""
    with database() as tracking_uri, bucket(folder) as variables:
        server = mlflow_server(tracking_uri, f"s3://{BUCKET}", variables)
        with started(server, folder) as address:
            yield {"MLFLOW_TRACKING_URI": address}


@contextmanager
def database() -> Iterator[str]:
    psycopg = _installed("psycopg")
    with postgresql() as address:
        with psycopg.connect(f"{address}/postgres", autocommit=True) as connection:
            connection.execute(f"create database {DATABASE}")
        yield f"{address}/{DATABASE}"


@contextmanager
def bucket(folder: Path) -> Iterator[Mapping[str, str]]:
    """The variables by which MLflow finds the server, with keys to it."""
    boto3 = _installed("boto3")
    _installed("moto")  # runs in a process of its own
    with started(s3_server(), folder) as address:
        variables = {
            "MLFLOW_S3_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "study",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
            region_name=variables["AWS_DEFAULT_REGION"],
        ).create_bucket(Bucket=BUCKET)
        yield variables


def _installed(package: str) -> Any:
    return pytest.importorskip(package, reason=f"needs {package}, of the extra `services`: make test-services")


STORES = {
    "sqlite behind make ui": sqlite_behind_make_ui,
    "sqlite behind a server": sqlite_behind_a_server,
    "postgresql and s3": postgresql_and_s3,
    "postgresql and s3 behind a server": postgresql_and_s3_behind_a_server,
}
