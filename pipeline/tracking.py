"""MLflow's store: where it is, whether it answers, its experiments and the files it keeps."""

import logging
import os
import socket
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import requests
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.errors import StudyError, UnreachableError
from pipeline.files import files_under, is_full_disk, no_room_for, sha256_of, whole_file

URI_VARIABLE = "MLFLOW_TRACKING_URI"
ROOT_VARIABLE = "MLFLOW_DEFAULT_ARTIFACT_ROOT"  # read by `mlflow server` too
SQLITE = "sqlite:///"
ANSWER_TIMEOUT_S = 5
DATABASE_PORTS = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
SERVER_PORTS = {"http": 80, "https": 443}

# Set before the store is first used; a user's own setting wins.
SETTINGS = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # a server that is lost half-way is noticed in seconds, not in minutes
}
TALKATIVE = ("mlflow.store.db.utils", "alembic", "mlflow.pyfunc", "mlflow.models.model")


def tracking_uri() -> str:
    """The store of MLFLOW_TRACKING_URI, else the database in the current folder."""
    return os.environ.get(URI_VARIABLE) or f"{SQLITE}{Path('mlflow.db').absolute()}"


def artifact_root() -> str:
    """Where a database that is opened without a server keeps artifacts, as a URI.

    That is MLFLOW_DEFAULT_ARTIFACT_ROOT, else the folder `mlartifacts` beside the database. An absolute file URI is the
    one form of a folder that this process and a server on the same database both can read.
    """
    if root := os.environ.get(ROOT_VARIABLE):
        path = _local_path(root)
        return root.rstrip("/") if path is None else path.absolute().as_uri()
    uri = tracking_uri()
    folder = _sqlite_path(uri).absolute().parent if uri.startswith(SQLITE) else Path.cwd()
    return (folder / "mlartifacts").as_uri()


def store_exists() -> bool:
    """Whether opening the store would not make it; one that is no file is believed to be there."""
    uri = tracking_uri()
    return not uri.startswith(SQLITE) or _sqlite_path(uri).is_file()


def open_store() -> MlflowClient:
    """A client of the store; the database is created at the first opening.

    Raises:
        UnreachableError: nothing answers there.
        StudyError: what answers is not a store of this MLflow.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = tracking_uri()
    try:
        _make_whole(uri)
        _probe(uri)
        return _client(uri)
    except Exception as error:  # a database driver, SQLAlchemy, alembic or requests: each has its own
        kind = UnreachableError if _is_lost(error) else StudyError
        raise kind(_told_of(uri, error, "cannot be opened as an MLflow store")) from None


@contextmanager
def lost_store_named() -> Iterator[None]:
    """A block, or a function, that reads and writes the store after it was opened.

    Raises:
        UnreachableError: it does not answer any more.
        StudyError: there was no room for what was to be written.
    """
    try:
        yield
    except StudyError:
        raise
    except Exception as error:
        if is_full_disk(error):
            raise StudyError(no_room_for(_without_password(tracking_uri()))) from None
        if _is_lost(error):
            raise UnreachableError(_told_of(tracking_uri(), error, "the MLflow store was lost")) from None
        raise


def find_experiment(client: MlflowClient, name: str) -> str | None:
    """The id of the experiment of that name; None where there is none, or it lies in the bin.

    Raises:
        StudyError: its artifacts lie where this process cannot write.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage == LifecycleStage.DELETED:
        return None
    _check_location(name, experiment.artifact_location)
    return experiment.experiment_id


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of that name: found, brought back from the bin, or created; see `find_experiment`."""
    if found := find_experiment(client, name):
        return found
    if binned := client.get_experiment_by_name(name):
        client.restore_experiment(binned.experiment_id)
        return binned.experiment_id
    return client.create_experiment(name, artifact_location=_artifact_location(name))


def stored_files(client: MlflowClient, uri: str, thorough: bool = False) -> dict[str, str | None]:
    """SHA-256 by path of each file under a folder of artifacts; empty where there is no such folder.

    Args:
        thorough: what does not lie on this machine's disk is fetched to be read; else its hash is None.
    """
    if _local_path(uri) is None and not thorough:
        return dict.fromkeys(_listed(get_artifact_repository(uri, tracking_uri=client.tracking_uri), None))
    with local_copy(client, uri) as folder:
        return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files_under(folder)}


@contextmanager
def local_copy(client: MlflowClient, uri: str) -> Iterator[Path]:
    """A folder of artifacts as a folder of this machine, fetched for the time of the block where it lies elsewhere."""
    if (path := _local_path(uri)) is not None:
        yield path
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(get_artifact_repository(uri, tracking_uri=client.tracking_uri).download_artifacts("", scratch))


@contextmanager
def stored_file(client: MlflowClient, uri: str, name: str) -> Iterator[Path | None]:
    """One file of a folder of artifacts, for the time of the block; None where it is not there."""
    if (folder := _local_path(uri)) is not None:
        yield folder / name if (folder / name).is_file() else None
        return
    repository = get_artifact_repository(uri, tracking_uri=client.tracking_uri)
    beside = repository.list_artifacts(name.rpartition("/")[0] or None)
    if name not in {found.path for found in beside}:
        yield None
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(repository.download_artifacts(name, scratch))


def _listed(repository: ArtifactRepository, folder: str | None) -> Iterator[str]:
    for found in repository.list_artifacts(folder):
        if found.is_dir:
            yield from _listed(repository, found.path)
        else:
            yield found.path


def _artifact_location(experiment: str) -> str | None:
    """None leaves the choice to a server."""
    return f"{artifact_root()}/{experiment}" if _scheme(tracking_uri()) in DATABASE_PORTS else None


def _check_location(experiment: str, location: str) -> None:
    uri = tracking_uri()
    if _scheme(uri) not in DATABASE_PORTS:
        return
    where = str(_sqlite_path(uri)) if uri.startswith(SQLITE) else _without_password(uri)
    if urlsplit(location).scheme == "mlflow-artifacts":
        raise StudyError(
            f"{where}: experiment {experiment} keeps its artifacts behind an MLflow server; "
            f"set {URI_VARIABLE} to the server's address"
        )
    path, root = _local_path(location), _local_path(artifact_root())
    if uri.startswith(SQLITE) and path and root and not path.is_relative_to(root):
        raise StudyError(
            f"{where}: keeps its artifacts in {path}, outside {root}: the folder was moved, or {ROOT_VARIABLE} "
            "changed; delete mlflow.db and mlartifacts, then `dvc repro publish` rebuilds both"
        )


def _local_path(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def _sqlite_path(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def _client(uri: str) -> MlflowClient:
    """One that was answered."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_experiments(max_results=1)
    return client


def _make_whole(uri: str) -> None:
    """A database of SQLite where there is none; MLflow cannot finish one that it was killed over."""
    path = _sqlite_path(uri)
    if not uri.startswith(SQLITE) or _holds_something(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _holds_something(path):
            with whole_file(path) as partial:
                partial.unlink(missing_ok=True)
                _client(f"{SQLITE}{partial.absolute()}")


def _holds_something(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def _probe(uri: str) -> None:
    """Fails within seconds where nothing answers: MLflow and SQLAlchemy would try again for minutes."""
    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(_sqlite_path(uri))) as database:
            database.execute("PRAGMA schema_version")
        return
    parts = urlsplit(uri)
    port = parts.port or (DATABASE_PORTS | SERVER_PORTS).get(_scheme(uri))
    if parts.hostname and port and not _behind_proxy(uri):
        socket.create_connection((parts.hostname, port), timeout=ANSWER_TIMEOUT_S).close()


def _behind_proxy(uri: str) -> bool:
    """Whether the way to `uri` leads through a proxy, so that its own host need not answer."""
    return _scheme(uri) in getproxies() and not proxy_bypass(urlsplit(uri).hostname or "")


def _scheme(uri: str) -> str:
    """`postgresql` of `postgresql+psycopg2://...`"""
    return urlsplit(uri).scheme.partition("+")[0]


def _is_lost(error: BaseException) -> bool:
    """Whether it, or an error that led to it, says that a server did not answer, or not now."""
    if isinstance(error, MlflowException) and error.error_code == "TEMPORARILY_UNAVAILABLE":
        return True
    if isinstance(error, requests.RequestException | ConnectionError | TimeoutError | socket.gaierror):
        return True
    before = error.__cause__ or error.__context__
    return before is not None and _is_lost(before)


def _told_of(uri: str, error: Exception, problem: str) -> str:
    """The line for the user: which store, what is wrong with it, what to do."""
    reason = str(error.message if isinstance(error, MlflowException) else error).strip().splitlines() or [repr(error)]
    if os.environ.get(URI_VARIABLE):
        where, remedy = f"{URI_VARIABLE}={_without_password(uri)}", f"start that store, or unset {URI_VARIABLE}"
    else:
        where, remedy = str(_sqlite_path(uri)), "move it away and run `dvc repro publish`, which rebuilds it"
    return f"{where}: {problem} ({reason[0]}); {remedy}"


def _without_password(uri: str) -> str:
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri
