"""One cell brought in step: its run, its logged model, and the registered version that carries the evidence."""

import logging
from dataclasses import replace

from pipeline import registry, runs, tracking
from pipeline.publishing.content import Published
from pipeline.publishing.drift import CellState, cell_state
from pipeline.publishing.wanted import WantedCell

log = logging.getLogger(__name__)


def publish_cell(client: tracking.MlflowClient, wanted: WantedCell, thorough: bool = False) -> Published:
    """One cell. Its earlier run is replaced if only scores changed; a new checkpoint makes a new model version.

    What somebody deleted or edited in MLflow is set right, and named.

    Args:
        thorough: see `cell_state`.
    """
    state = cell_state(client, wanted, thorough)
    if not state.drifts:
        return _left(client, wanted, state)
    repaired = () if state.is_new else state.drifts
    for drift in repaired:
        log.info("%s", drift)
    published = _written(client, wanted, state)
    log.info("%s: published as version %s of %s", wanted.name, published.version, published.model_name)
    return replace(published, repaired=tuple(drift.problem for drift in repaired))


def _left(client: tracking.MlflowClient, wanted: WantedCell, state: CellState) -> Published:
    """As it is, but for what could not be told before."""
    assert state.run is not None  # else there were drifts
    assert state.version is not None
    run_id, number = state.run.info.run_id, str(state.version.version)
    runs.make_current(client, run_id, state.runs, wanted.identity)
    registry.add_context(client, state.version, wanted.version(state.run.info.experiment_id, run_id))
    log.info("%s: in step (version %s of %s)", wanted.name, number, state.version.name)
    model_id = registry.model_id_of(state.version)
    return Published(wanted.name, state.run.info.experiment_id, run_id, False, state.version.name, number, model_id)


def _written(client: tracking.MlflowClient, wanted: WantedCell, state: CellState) -> Published:
    """Run, logged model and version, in the order in which one needs the other; what can be kept is repaired."""
    name, experiment = wanted.registered.name, tracking.experiment_id(client, wanted.files.dataset)
    run_id = (
        _repaired(client, state.run, wanted, state) if state.run else runs.start_run(client, experiment, wanted.run)
    )
    content = wanted.version(experiment, run_id)
    model_id = registry.ensure_logged_model(
        client, experiment, run_id, content, wanted.save_model, state.model_is_whole
    )
    if not state.run:
        runs.link_models(client, run_id, [model_id])
        runs.log_metrics(client, run_id, wanted.run, model_id)
    registry.ensure_registered_model(client, wanted.registered)
    number = registry.ensure_version(client, name, run_id, model_id, content)
    runs.make_current(client, run_id, state.runs, wanted.identity)
    if not state.run:
        runs.finish_run(client, run_id, wanted.run)
    created = state.run is None or state.version is None
    return Published(wanted.name, experiment, run_id, created, name, number, model_id)


def _repaired(client: tracking.MlflowClient, run: runs.Run, wanted: WantedCell, state: CellState) -> str:
    """The run with its tags and files as they should be; only they can be mended in place."""
    for name in runs.edited_tags(run, wanted.run):
        client.set_tag(run.info.run_id, name, wanted.run.tags[name])
    runs.log_artifacts(client, run.info.run_id, wanted.run, state.damaged_files)
    return run.info.run_id
