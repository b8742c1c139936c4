"""A publication that is cut off after any of its writes is finished by the next: nothing twice, nothing half.

After every seventh of them; with `make test-kills` after each.
"""

import itertools
import os
from unittest import mock

import pytest
from mlflow import MlflowClient

from tests.cells import PublishedStudy, make_finished_study

pytestmark = pytest.mark.slow

EVERY = 1 if int(os.environ.get("KILLS", "0")) > 9 else 7
WRITES = ("create_", "log_", "set_", "finalize_", "delete_", "update_")


class Killed(BaseException):
    """Nothing that is published catches it, as nothing catches a kill."""


def cut_after(count):
    """Ends the process, as it were, when a client has written so often."""
    written = itertools.count(1)

    def cutting(write):
        def write_and_look(*args, **kwargs):
            answer = write(*args, **kwargs)
            if next(written) == count:
                raise Killed
            return answer

        return write_and_look

    methods = {name: getattr(MlflowClient, name) for name in dir(MlflowClient) if name.startswith(WRITES)}
    return mock.patch.multiple(MlflowClient, **{name: cutting(method) for name, method in methods.items()})


def held(client):
    """All that the store shows, without ids and times."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments)
    return {
        "runs": sorted((run.info.run_name, run.info.status, run.data.tags["current"]) for run in runs),
        "values": {run.info.run_name: (run.data.params, run.data.metrics) for run in runs},
        "versions": [(v.name, v.version, set(v.tags), v.aliases) for v in client.search_model_versions()],
        # how often a metric was written stays to be seen: MLflow takes none back
        "models": [
            (m.name, m.status, set(m.tags), {each.key for each in m.metrics})
            for m in client.search_logged_models(experiments)
        ],
    }


def study_in(folder, monkeypatch):
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return PublishedStudy(folder)


def publish_cut_off_again_and_again(study):
    """After how many writes it was cut off last, before it came through."""
    for count in itertools.count(1, EVERY):
        try:
            with cut_after(count):
                study.publish()
            return count - EVERY
        except Killed:
            continue


def test_a_publication_cut_off_again_and_again_ends_as_one_that_was_not(tmp_path, monkeypatch):
    make_finished_study(tmp_path / "data")
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole/data").symlink_to(tmp_path / "data")
    whole = study_in(tmp_path / "whole", monkeypatch)
    whole.publish()
    wanted = held(whole.client)
    cut = study_in(tmp_path, monkeypatch)
    assert publish_cut_off_again_and_again(cut) > 20
    assert cut.check() == []
    assert held(cut.client) == wanted
