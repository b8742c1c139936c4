"""A published study in miniature with versions to choose from, in a folder to run commands in."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import yaml

from pipeline import registry
from pipeline.promotion.moving import FINISHED
from tests.cells import PublishedStudy, give_checkpoint, published_study

ROOT = Path(__file__).parents[2]
NAME = "busi-classifier"
BOUND = {"metric": "test/accuracy", "at_least": 0.5}


@contextmanager
def promotable_study(folder: Path) -> Iterator[PublishedStudy]:
    """Versions 1 and 2 of busi-classifier have an accuracy of 0.75, version 3 is always wrong."""
    with published_study(folder) as study:
        give_checkpoint(study.data, "busi", "vit", seed=1)
        study.publish()
        make_wrong(study.data / "models/busi/vit/predictions.csv")
        give_checkpoint(study.data, "busi", "vit", seed=2)
        study.publish()
        give_policy(folder, BOUND)
        yield study


def make_wrong(predictions: Path) -> None:
    table = pd.read_csv(predictions)
    table.assign(predicted=(table["label"] + 1) % 3, correct=False).to_csv(predictions, index=False)


def give_policy(folder: Path, *conditions: dict) -> None:
    """The shipped params.yaml with another policy."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    policy = {"min_images": 2, "resamples": 100, "conditions": list(conditions), "ranking": ["test/accuracy"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(tree | {"promotion": policy}), encoding="utf-8")


def forget_promotions(study: PublishedStudy) -> None:
    """No alias, no log."""
    for alias in registry.aliases_of(study.client, NAME):
        study.client.delete_registered_model_alias(NAME, alias)
    if FINISHED in registry.model_tags(study.client, NAME):
        study.client.delete_registered_model_tag(NAME, FINISHED)
    study.promotion_log.unlink(missing_ok=True)
