"""One cell brought in step: its run, its logged model, and the registered version that carries the evidence."""

import logging

from pipeline import registry, runs, tracking
from pipeline.publishing.content import Published
from pipeline.publishing.drift import CellState, cell_state, model_files
from pipeline.publishing.wanted import WantedCell

log = logging.getLogger(__name__)


def publish_cell(client: tracking.MlflowClient, wanted: WantedCell) -> Published:
    """One cell. Its earlier run is replaced if only scores changed; a new checkpoint makes a new model version.

    What somebody deleted or edited in MLflow is set right, and named.
    """
    state = cell_state(client, wanted)
    name, experiment = wanted.registered.name, tracking.experiment_id(client, wanted.files.dataset)
    if not state.drifts and state.run and state.version:
        number = str(state.version.version)
        runs.make_current(client, state.run.info.run_id, state.runs, wanted.identity)
        log.info("%s: in step (version %s of %s)", wanted.name, number, name)
        model_id = str(state.version.source).rpartition("/")[2]
        return Published(wanted.name, experiment, state.run.info.run_id, False, name, number, model_id)

    for drift in () if state.is_new else state.drifts:
        log.info("%s", drift)
    if state.run:
        run_id = _repaired(client, state.run, wanted, state)
    else:
        run_id = runs.start_run(client, experiment, wanted.run)
    model_id = registry.ensure_logged_model(
        client,
        experiment,
        run_id,
        wanted.version(experiment, run_id),
        wanted.save_model,
        lambda model: model.tags.get(registry.EXPLAINS) == wanted.explains and not model_files(client, model),
    )
    if not state.run:
        runs.link_models(client, run_id, [model_id])
        runs.log_metrics(client, run_id, wanted.run, model_id)
    registry.ensure_registered_model(client, wanted.registered)
    number = registry.ensure_version(client, name, run_id, model_id, wanted.version(experiment, run_id))
    runs.make_current(client, run_id, state.runs, wanted.identity)
    if not state.run:
        runs.finish_run(client, run_id, wanted.run)
    log.info("%s: published as version %s of %s", wanted.name, number, name)
    created = state.run is None or state.version is None
    repaired = () if state.is_new else tuple(drift.problem for drift in state.drifts)
    return Published(wanted.name, experiment, run_id, created, name, number, model_id, repaired)


def _repaired(client: tracking.MlflowClient, run: runs.Run, wanted: WantedCell, state: CellState) -> str:
    """The run with its tags and files as they should be; only they can be mended in place."""
    for name in runs.edited_tags(run, wanted.run):
        client.set_tag(run.info.run_id, name, wanted.run.tags[name])
    runs.log_artifacts(client, run.info.run_id, wanted.run, state.damaged_files)
    return run.info.run_id
