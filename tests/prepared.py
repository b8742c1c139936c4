"""A prepared set in miniature that a transformer can learn in a few steps: each class has its colour."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pipeline.data import DATASETS
from pipeline.data.prepared import COLUMNS
from pipeline.records import Audit, PreparedSet

CLASSES = ("blue", "green", "red")
SIDE_PX = 32
SPEC = replace(DATASETS["pbc"], name="colours", classes=CLASSES)
COLOURS = np.array([(60, 60, 180), (60, 180, 60), (180, 60, 60)])


def about(spec=SPEC):
    """What a prepared set of that spec says to those who learn from it."""
    return PreparedSet(
        dataset=spec.name, classes=spec.classes, flips=spec.flips, colour=spec.colour, labelled=spec.labelled,
        image_size_px=SIDE_PX, images=1, images_per_split={}, masks=0, data_sha256="d" * 64,
    )  # fmt: skip


def write_audit(audit, folder):
    audit.write(folder)
    audit.prepared_set.write(folder)


def write_prepared(folder, train=(8, 4, 2), validation=3, test=4, spec=SPEC):
    """`train` images of each class, then as many of each class as the other splits say."""
    folder.mkdir(parents=True)
    labels = np.concatenate([np.repeat(np.arange(3), count) for count in (train, validation, test)])
    splits = np.repeat(["train", "validation", "test"], [sum(train), 3 * validation, 3 * test])
    noise = np.random.default_rng(0).integers(-50, 50, size=(len(labels), SIDE_PX, SIDE_PX, 3))
    np.save(folder / "images.npy", (COLOURS[labels][:, None, None] + noise).astype(np.uint8))
    rows = range(len(labels))
    index = pd.DataFrame({"row": rows, "file": [f"{row}.png" for row in rows], "class": np.array(CLASSES)[labels]})
    index = index.assign(label=labels, split=splits, group=rows, sha256="0", has_mask=False)
    index[list(COLUMNS)].to_csv(folder / "index.csv", index=False)
    index[["row"]].to_csv(folder / "traits.csv", index=False)
    counts = {name: int((labels == label).sum()) for label, name in enumerate(CLASSES)}
    nothing = {"exact_duplicates": 0, "duplicate_groups": (), "label_conflicts": (), "dropped": (), "flagged": ()}
    made = Audit(
        spec=spec, image_size_px=SIDE_PX, data_sha256="d" * 64, images=len(labels),
        images_per_class=counts, images_per_split={}, masks=0, **nothing,
    )  # fmt: skip
    write_audit(made, folder)
    return folder
