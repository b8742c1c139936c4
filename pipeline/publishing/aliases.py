"""Aliases beside the promotion log: what went with a store or a version is set again, what a person moved is told."""

import logging
from pathlib import Path

from pipeline import registry, tracking
from pipeline.promotion.log import locked, read, wanted_aliases
from pipeline.promotion.moving import finish_last_move, version_tags
from pipeline.publishing.drift import Drift

log = logging.getLogger(__name__)

SET_AGAIN = "set again"


def alias_drifts(client: tracking.MlflowClient, dataset: str, promotion_log: Path) -> list[Drift]:
    """Where the aliases of a registered model are not as the log left them; looks, and changes nothing."""
    name = registry.model_name(dataset)
    present = registry.aliases_of(client, name)
    wanted = wanted_aliases(read(promotion_log), name)
    found = [_drift(client, dataset, alias, checkpoint, present.get(alias)) for alias, checkpoint in wanted.items()]
    return [drift for drift in found if drift]


def restore_aliases(client: tracking.MlflowClient, dataset: str, promotion_log: Path) -> None:
    """Finishes a move that was cut off, or went with the store, and sets again each alias that is on no version."""
    if not promotion_log.exists():
        return
    name = registry.model_name(dataset)
    for drift in alias_drifts(client, dataset, promotion_log):
        log.info("%s", drift)
    finish_last_move(promotion_log, dataset)
    with locked(promotion_log):
        moves, present = read(promotion_log), registry.aliases_of(client, name)
        for alias, checkpoint in wanted_aliases(moves, name).items():
            version = registry.find_by_checkpoint(client, name, checkpoint)
            if version and alias not in present:
                client.set_registered_model_alias(name, alias, str(version.version))
                told = next(move for move in reversed(moves) if move.model_name == name and alias in move.after)
                registry.tag_version(client, name, str(version.version), version_tags(told, alias))


def _drift(
    client: tracking.MlflowClient, dataset: str, alias: str, checkpoint: str, present: str | None
) -> Drift | None:
    name = registry.model_name(dataset)
    version = registry.find_by_checkpoint(client, name, checkpoint)
    if version is None:
        lost = f"{alias}: checkpoint {checkpoint[:12]}, promoted by the log, is not registered"
        return Drift(name, lost, "check out the commit that made it, `dvc checkout`, and publish")
    if present is None:
        return Drift(name, f"{alias}: on no version, on {version.version} by the log", SET_AGAIN)
    if present != str(version.version):
        moved = f"{alias}: moved by hand from version {version.version} to {present}"
        command = f"python -m flows.promote --dataset {dataset} --version {present}"
        remedy = f"left there; `{command}` judges it and writes it into the log"
        return Drift(name, moved, remedy)
    return None
