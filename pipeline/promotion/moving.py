"""Aliases moved in the registry: under a lock, with a line in the promotion log, tags, and a run as audit.

The log is written first, as a database writes its log before its pages. Cut off before it, nothing has happened; after
it, the move is known with who and why, and the next one finishes it. The other way round a kill would leave a champion
that nobody answers for. That a move is finished is told by a tag of the registered model, which is written last; an
alias that was moved by hand later is thus not taken for a move that was cut off.
"""

import logging
import tempfile
from pathlib import Path

from pipeline import registry, runs, tracking
from pipeline.errors import RefusalError
from pipeline.files import sha256_of, write_text
from pipeline.promotion.change import CHALLENGER, CHAMPION, Holder, Holders, Move
from pipeline.promotion.log import append, before_last, locked, read
from pipeline.promotion.planning import Wanted
from pipeline.promotion.rendering import move_page, title
from pipeline.records import CHECKPOINT

log = logging.getLogger(__name__)

EXPERIMENT = "promotion"
NO_ALIAS = "none"
TAG_LENGTH = 5000  # that MLflow's stores hold; the log and the artifacts have all
FINISHED = "promotion.log_sha256"  # of a registered model: its last line of the log that is in force


def holders_of(client: tracking.MlflowClient, name: str, aliases: Wanted) -> Holders:
    """The versions with their checkpoints, for the log."""
    return {alias: _holder(client, name, version) if version else None for alias, version in aliases.items()}


def make_move(log_path: Path, move: Move) -> None:
    """Does what the move says and leaves its traces.

    Raises:
        RefusalError: the aliases are no longer those that the move was decided on.
    """
    client = tracking.open_store()
    with locked(log_path):
        _finish_last_move(client, log_path, move.model_name)
        aliases = registry.aliases_of(client, move.model_name)
        if holders_of(client, move.model_name, {alias: aliases.get(alias) for alias in move.before}) != move.before:
            raise RefusalError(f"{move.model_name}: its aliases were moved meanwhile; run again to decide anew")
        append(log_path, move)
        _carry_out(client, move)


def finish_last_move(log_path: Path, dataset: str) -> None:
    """Carries out the last line of the log where that was cut off, or where the store was made again since."""
    client, name = tracking.open_store(), registry.model_name(dataset)
    with locked(log_path):
        _finish_last_move(client, log_path, name)


def earlier_aliases(client: tracking.MlflowClient, log_path: Path, name: str) -> Wanted:
    """Champion and challenger as they were before the last promotion, under the versions' present numbers.

    Raises:
        RefusalError: there was no champion before, or its version or weights are gone.
    """
    before = before_last(read(log_path), name)
    champion, challenger = before[CHAMPION], before.get(CHALLENGER)
    assert champion is not None  # before_last refuses it
    version, rival = _whole_version(client, name, champion), _present_aliases(client, name, {CHALLENGER: challenger})
    both = rival.get(CHALLENGER) == version  # set so by hand
    return {CHAMPION: version, CHALLENGER: None if both else rival.get(CHALLENGER)}


def _finish_last_move(client: tracking.MlflowClient, log_path: Path, name: str) -> None:
    moves = [move for move in read(log_path) if move.model_name == name]
    if not moves or not registry.versions_of(client, name):
        return
    if registry.model_tags(client, name).get(FINISHED) != moves[-1].sha256:
        log.info("%s: finishing the move of %s, which was cut off", name, moves[-1].at)
        _carry_out(client, moves[-1])


def _carry_out(client: tracking.MlflowClient, move: Move) -> None:
    """Each part may have been done before; the tag that says so comes last."""
    wanted = _present_aliases(client, move.model_name, move.after)
    registry.move_aliases(client, move.model_name, wanted, never_absent=CHAMPION)
    for version, alias in _new_aliases(move, _present_aliases(client, move.model_name, move.before), wanted).items():
        registry.tag_version(client, move.model_name, version, version_tags(move, alias))
    _write_audit(client, move, wanted.get(move.moved_alias))
    client.set_registered_model_tag(move.model_name, FINISHED, move.sha256)


def _new_aliases(move: Move, before: Wanted, after: Wanted) -> dict[str, str]:
    """By version: the alias that the move gave it, or left it when it took another."""
    left = dict.fromkeys(version for alias in move.moved_aliases if (version := before.get(alias)))
    kept = {version: alias for alias, version in after.items() if version}
    given = {version: alias for alias in reversed(move.moved_aliases) if (version := after.get(alias))}
    return {version: kept.get(version, NO_ALIAS) for version in left} | given


def _write_audit(client: tracking.MlflowClient, move: Move, version: str | None) -> None:
    """A run that holds the move as data and as a page, with the model of the version that got the alias as input."""
    experiment, page = tracking.experiment_id(client, EXPERIMENT), move_page(move)
    with tempfile.TemporaryDirectory() as folder:
        files = {"decision.json": move.model_dump_json(indent=2) + "\n", "decision.md": page}
        for name, text in files.items():
            write_text(Path(folder) / name, text)
        told = {"dataset": move.dataset, "mlflow.note.content": page[:TAG_LENGTH]}
        tags = version_tags(move, move.moved_alias) | told
        artifacts = [(Path(folder) / name, "") for name in files]
        content = runs.RunContent(title(move), tags=tags, artifacts=artifacts)
        earlier = runs.runs_of(client, experiment, content.subject)
        if runs.run_holding(earlier, content.content_hash):
            return
        run_id = runs.start_run(client, experiment, content)
        if version and (model := registry.logged_model_of(client, client.get_model_version(move.model_name, version))):
            runs.link_models(client, run_id, [model.model_id])
        runs.make_current(client, run_id, earlier, {})
        runs.finish_run(client, run_id, content)


def version_tags(move: Move, alias: str) -> dict[str, str]:
    start, end = (ends.get(move.moved_alias) for ends in (move.before, move.after))
    told = {
        "alias": alias,
        "action": move.action,
        "from": start.version if start else NO_ALIAS,
        "to": end.version if end else NO_ALIAS,
        "by": move.by,
        "at": move.at,
        "why": move.why,
        "log_sha256": move.sha256,
    }
    return {f"promotion.{name}": value[:TAG_LENGTH] for name, value in told.items()}


def _present_aliases(client: tracking.MlflowClient, name: str, holders: Holders) -> Wanted:
    """By the number that each holder's checkpoint has now; without the aliases whose version is gone."""
    found: Wanted = {}
    for alias, holder in holders.items():
        version = registry.find_by_checkpoint(client, name, holder.checkpoint_sha256) if holder else None
        if holder and version is None:
            log.warning("%s: version %s, the %s of the promotion log, is gone", name, holder.version, alias)
        else:
            found[alias] = str(version.version) if version else None
    return found


def _whole_version(client: tracking.MlflowClient, name: str, holder: Holder) -> str:
    """The holder's number now, if its weights are still there and its own."""
    found = registry.find_by_checkpoint(client, name, holder.checkpoint_sha256)
    if found is None:
        raise RefusalError(f"{name}: version {holder.version}, the earlier champion, is gone; promote another")
    if _weights_sha256(client, found) != holder.checkpoint_sha256:
        raise RefusalError(
            f"{name}: the weights of version {found.version}, the earlier champion, are gone or altered; "
            "`dvc repro publish` writes them again while the study has them"
        )
    return str(found.version)


def _weights_sha256(client: tracking.MlflowClient, version: registry.ModelVersion) -> str | None:
    model = registry.logged_model_of(client, version)
    if model is None:
        return None
    with tracking.stored_file(client, model.artifact_location, f"artifacts/{CHECKPOINT}") as weights:
        return sha256_of(weights) if weights else None


def _holder(client: tracking.MlflowClient, name: str, version: str) -> Holder:
    checkpoint = registry.checkpoint_of(client, client.get_model_version(name, version))
    return Holder(version=version, checkpoint_sha256=checkpoint or "")
