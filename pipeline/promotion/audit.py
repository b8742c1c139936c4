"""The run that a move of aliases leaves in the experiment `promotion`: the whole decision, as data and as a page."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import registry, runs, tracking
from pipeline.files import write_text
from pipeline.promotion.change import Move
from pipeline.promotion.rendering import move_page, title
from pipeline.promotion.tags import TAG_LENGTH, version_tags

EXPERIMENT = "promotion"


@contextmanager
def audit_content(move: Move) -> Iterator[runs.RunContent]:
    """What the run is to hold; its files are there for the time of the block."""
    page = move_page(move)
    told = {"dataset": move.dataset, "mlflow.note.content": page[:TAG_LENGTH]}
    decision = json.dumps(json.loads(move.line), indent=2, ensure_ascii=False) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        files = {Path(folder) / "decision.json": decision, Path(folder) / "decision.md": page}
        for path, text in files.items():
            write_text(path, text)
        tags = {**version_tags(move, move.moved_alias), **told}
        yield runs.RunContent(title(move), tags=tags, artifacts=[(path, "") for path in files])


def audited_models(client: tracking.MlflowClient, version: registry.ModelVersion | None) -> list[str]:
    """The id of the logged model behind the version that got the alias; none where either is gone."""
    model = registry.logged_model_of(client, version) if version else None
    return [model.model_id] if model else []


def write_audit(client: tracking.MlflowClient, move: Move, version: registry.ModelVersion | None) -> None:
    """Leaves a run that is there already."""
    experiment = tracking.experiment_id(client, EXPERIMENT)
    with audit_content(move) as content:
        earlier = runs.runs_of(client, experiment, content.subject)
        if runs.run_holding(earlier, content.content_hash):
            return
        run_id = runs.start_run(client, experiment, content)
        runs.link_models(client, run_id, audited_models(client, version))
        runs.make_current(client, run_id, earlier, {})
        runs.finish_run(client, run_id, content)
