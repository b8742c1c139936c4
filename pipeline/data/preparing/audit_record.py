"""What was found of a set, as the record that later stages and the audit's page read."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from pipeline.data.index import Scan
from pipeline.data.preparing import audit, given
from pipeline.data.preparing.judging import Judged
from pipeline.data.preparing.likeness import across_labels, picture_groups
from pipeline.data.preparing.reading import Found, files_of
from pipeline.data.preparing.split import SPLITS
from pipeline.params import DatasetParams
from pipeline.records import Audit
from pipeline.spec import DatasetSpec

log = logging.getLogger(__name__)

NAMED = 10  # dropped files that the log names


def audit_of(
    scan: Scan,
    found: Sequence[Found],
    judged: Judged,
    index: pd.DataFrame,
    spec: DatasetSpec,
    params: DatasetParams,
    image_size_px: int,
    data_sha256: str,
) -> Audit:
    """The record; `data_sha256` is that of index.csv and the arrays, from which later stages learn."""
    kept, links = judged.kept, judged.likeness.links
    pictures, objections = picture_groups(kept, links), judged.curation.objections_to(files_of(kept))
    return Audit(
        spec=spec,
        image_size_px=image_size_px,
        data_sha256=data_sha256,
        images=len(kept),
        images_per_class=_counts(index, spec),
        images_per_split={split: _counts(index[index["split"] == split], spec) for split in SPLITS},
        masks=int(index["has_mask"].sum()),
        exact_duplicates=len(judged.copies.pairs),
        duplicate_groups=tuple(map(files_of, pictures)),
        label_conflicts=judged.copies.conflicts,
        dropped=(*audit.unreadable(found), *judged.dropped, *audit.not_used(scan, spec.layout.table)),
        flagged=(
            *audit.odd_masks(kept, spec),
            *across_labels(pictures),
            *objections,
        ),
        litter=scan.litter,
        traits={name: _levels(kept, name) for name in spec.traits},
        duplicate_distance=params.duplicate_distance,
        overlap_correlation=params.overlap_correlation,
        links=dict(sorted(Counter(link.method for link in links).items())),
        given_groups=len({one.image.group for one in kept if one.image.group}),
        given_splits=given.has_given_splits(kept),
        test_images_near_train=_near_train(judged, pictures),
    )


def _near_train(judged: Judged, pictures: Iterable[Sequence[Found]]) -> int:
    """Test images that are one picture with a training image; counted without the groups that the split was made by."""
    split_of = dict(zip(files_of(judged.kept), judged.splits, strict=True))
    splits = [[split_of[file] for file in files_of(group)] for group in pictures]
    return sum(group.count(SPLITS[2]) for group in splits if SPLITS[0] in group)


def _levels(kept: Sequence[Found], trait: str) -> dict[str, int]:
    return dict(sorted(Counter(one.reading.traits[trait] for one in kept).items()))


def _counts(index: pd.DataFrame, spec: DatasetSpec) -> dict[str, int]:
    return {name: int((index["class"] == name).sum()) for name in spec.classes}


def report(record: Audit) -> None:
    log.info(
        "%s: %d images kept, %d files dropped, %d flagged; %d groups of near-duplicates, %d images under two labels; "
        "test images with a near-copy in train: %d",
        record.dataset, record.images, len(record.dropped), len(record.flagged), len(record.duplicate_groups),
        len(record.label_conflicts), record.test_images_near_train,
    )  # fmt: skip
    for entry in record.dropped[:NAMED]:
        log.warning("%s: dropped %s: %s", record.dataset, entry.file, entry.reason)
    if len(record.dropped) > NAMED:
        log.warning("%s: and %d more files, in audit.json", record.dataset, len(record.dropped) - NAMED)
