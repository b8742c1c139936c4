"""Aliases beside the promotion log: what went with a store or a version is set again, what a person moved is told."""

import logging
from pathlib import Path

from pipeline import registry, tracking
from pipeline.promotion.log import locked, read, wanted_aliases
from pipeline.publishing.drift import Drift

log = logging.getLogger(__name__)

SET_AGAIN = "set again"


def alias_drifts(client: tracking.MlflowClient, name: str, promotion_log: Path) -> list[Drift]:
    """Where the aliases of a registered model are not as the log left them; looks, and changes nothing."""
    present = registry.aliases_of(client, name)
    wanted = wanted_aliases(read(promotion_log), name)
    found = [_drift(client, name, alias, checkpoint, present.get(alias)) for alias, checkpoint in wanted.items()]
    return [drift for drift in found if drift]


def restore_aliases(client: tracking.MlflowClient, name: str, promotion_log: Path) -> list[Drift]:
    """Sets again each alias of the log that is on no version; what was found comes back."""
    if not promotion_log.exists():
        return []
    with locked(promotion_log):
        drifts, wanted = alias_drifts(client, name, promotion_log), wanted_aliases(read(promotion_log), name)
        for drift in drifts:
            log.info("%s", drift)
        present = registry.aliases_of(client, name)
        for alias in wanted.keys() - present.keys():
            if version := registry.find_by_checkpoint(client, name, wanted[alias]):
                client.set_registered_model_alias(name, alias, str(version.version))
    return drifts


def _drift(client: tracking.MlflowClient, name: str, alias: str, checkpoint: str, present: str | None) -> Drift | None:
    version = registry.find_by_checkpoint(client, name, checkpoint)
    if version is None:
        lost = f"{alias}: checkpoint {checkpoint[:12]}, promoted by the log, is not registered"
        return Drift(name, lost, "check out the commit that made it, `dvc checkout`, and publish")
    if present is None:
        return Drift(name, f"{alias}: on no version, on {version.version} by the log", SET_AGAIN)
    if present != str(version.version):
        moved = f"{alias}: moved by hand from version {version.version} to {present}"
        dataset = name.removesuffix("-classifier")
        command = f"python -m flows.promote --dataset {dataset} --version {present}"
        remedy = f"left there; `{command}` judges it and writes it into the log"
        return Drift(name, moved, remedy)
    return None
