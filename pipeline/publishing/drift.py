"""Where MLflow does not hold what the files say: found, put in words, with what publishing does about it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline import integrity, registry, runs, tracking
from pipeline.publishing.wanted import WantedCell
from pipeline.runs import Run

NAMED = 3  # of many things that were changed alike, so many are named


@dataclass(frozen=True)
class Drift:
    subject: str  # `busi-dino`
    problem: str  # `version 2: tags edited: gradcam/insertion_auc`
    repair: str  # what publishing does

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}; {self.repair}"


@dataclass(frozen=True)
class CellState:
    """What of a cell is in MLflow, and where that differs from what is wanted."""

    runs: Sequence[Run]  # of the cell, of other checkpoints too
    run: Run | None  # the one that holds this content and can be kept
    version: registry.ModelVersion | None
    drifts: tuple[Drift, ...]
    damaged_files: frozenset[str] = frozenset()  # of the run
    model_is_whole: bool = False
    is_new: bool = False  # nothing of this checkpoint was ever published here


def cell_state(client: tracking.MlflowClient, wanted: WantedCell, thorough: bool = False) -> CellState:
    """Looks, and changes nothing.

    Args:
        thorough: files behind a server are fetched and read, not only looked for.
    """
    experiment = tracking.find_experiment(client, wanted.files.dataset)
    if experiment is None:
        return _new(wanted, ())
    found = runs.runs_of(client, experiment, wanted.name)
    run = runs.run_holding(found, wanted.run.content_hash)
    model = registry.find_logged_model(client, experiment, wanted.identity)
    version = registry.find_version(client, wanted.registered.name, wanted.identity, model.model_id if model else None)
    if run is None and model is None and version is None:
        return _new(wanted, found)

    damaged, model_faults = _run_files(client, wanted, run, thorough), _faults_of_model(client, wanted, model, thorough)
    faults = [
        *_faults_of_run(wanted, run, version, damaged),
        *model_faults,
        *_faults_of_version(wanted, experiment, run, version),
        *_faults_of_registered_model(client, wanted),
    ]
    keeps = run is not None and model is not None and not runs.edited_values(run, wanted.run)
    drifts = tuple(Drift(wanted.name, problem, repair) for problem, repair in faults)
    return CellState(found, run if keeps else None, version, drifts, frozenset(damaged), not model_faults)


def _new(wanted: WantedCell, found: Sequence[runs.Run]) -> CellState:
    return CellState(found, None, None, (Drift(wanted.name, "not in MLflow", "published"),), is_new=True)


Faults = Iterator[tuple[str, str]]  # problem, repair


def _run_files(client: tracking.MlflowClient, wanted: WantedCell, run: Run | None, thorough: bool) -> dict[str, str]:
    if run is None:
        return {}
    return integrity.file_problems(client, run.info.artifact_uri, wanted.run.manifest, thorough)


def _faults_of_run(
    wanted: WantedCell, run: Run | None, version: registry.ModelVersion | None, damaged: Mapping[str, str]
) -> Faults:
    if run is None:
        shown = version.tags.get(runs.CONTENT_HASH) if version else wanted.run.content_hash
        yield ("run: deleted" if shown == wanted.run.content_hash else "run: of other scores or params"), "written anew"
        return
    if edited := runs.edited_values(run, wanted.run):
        yield f"run: params or metrics edited: {listed(edited)}", "written anew"
    if edited := runs.edited_tags(run, wanted.run):
        yield f"run: tags edited: {listed(edited)}", "set back"
    yield from _faults_of_files("run", damaged)


def _faults_of_model(
    client: tracking.MlflowClient, wanted: WantedCell, model: registry.LoggedModel | None, thorough: bool
) -> list[tuple[str, str]]:
    if model is None:
        return [("logged model: deleted", "saved again")]
    files = integrity.kept_problems(client, model.artifact_location, model.tags.get(registry.MANIFEST, ""), thorough)
    faults = list(_faults_of_files("logged model", files))
    if model.tags.get(registry.EXPLAINS) != wanted.explains:
        faults.append(("logged model: explains with other settings than its heatmaps were made with", "saved again"))
    return faults


def _faults_of_version(
    wanted: WantedCell, experiment: str, run: Run | None, version: registry.ModelVersion | None
) -> Faults:
    if version is None:
        yield "version: deleted", "registered again"
        return
    if run is None:
        return  # it speaks of the run that is gone, and changes with it
    content, place = wanted.version(experiment, run.info.run_id), f"version {version.version}"
    if edited := registry.edited_tags(version, content):
        yield f"{place}: tags edited: {listed(edited)}", "set back"
    if version.description != content.description:
        yield f"{place}: description edited", "set back"


def _faults_of_registered_model(client: tracking.MlflowClient, wanted: WantedCell) -> Faults:
    if edited := registry.edited_model_fields(client, wanted.registered):
        yield f"{wanted.registered.name}: edited: {listed(edited)}", "set back"


def _faults_of_files(place: str, problems: Mapping[str, str]) -> Faults:
    for kind in sorted(set(problems.values())):
        yield f"{place}: files {kind}: {listed(path for path in problems if problems[path] == kind)}", "uploaded again"


def listed(names: Iterable[str]) -> str:
    """A few of them by name, the rest by number."""
    every = sorted(names)
    more = f" and {len(every) - NAMED} more" if len(every) > NAMED else ""
    return ", ".join(every[:NAMED]) + more
