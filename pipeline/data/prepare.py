"""From a raw folder to data/prepared/<d>: arrays of squares, an index whose split does not leak, traits, an audit."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int64
from numpy.lib.format import open_memmap
from tqdm import tqdm

from pipeline.data import audit
from pipeline.data.audit import Found
from pipeline.data.index import ImageFile, Scan, scan_folder
from pipeline.data.reading import Arrays, read_image
from pipeline.data.spec import DatasetSpec
from pipeline.data.split import SPLITS, split_groups
from pipeline.data.workers import mapper
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_folder
from pipeline.params import DatasetParams, PreprocessParams
from pipeline.records import Audit, Dropped
from pipeline.seeds import cell_seed

log = logging.getLogger(__name__)

IMAGES, MASKS, INDEX, TRAITS = "images.npy", "masks.npy", "index.csv", "traits.csv"
COPIED_AT_ONCE = 256  # images


def prepare_dataset(
    spec: DatasetSpec,
    dataset_params: DatasetParams,
    preprocess_params: PreprocessParams,
    seed: int,
    raw_folder: Path,
    prepared_folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> Audit:
    """Writes the prepared set, whole or not at all; the same bytes for any number of processes.

    Raises:
        StudyError: a class is missing, too many images cannot be used, or too few are left to be split.
    """
    if not raw_folder.is_dir():
        raise StudyError(f"{raw_folder}: no such folder; run `dvc repro fetch@{spec.name}` to make it")
    scan = scan_folder(raw_folder, spec, str(raw_folder))
    with whole_folder(prepared_folder) as folder:
        arrays = Arrays(
            raw_folder, folder / "all_images.npy", folder / "all_masks.npy", preprocess_params.image_size_px
        )
        found = _read_all(scan.images, arrays, spec, processes, progress)
        audit.refuse_if_too_many_unusable(found, preprocess_params.max_unreadable_fraction, str(raw_folder))
        readable = [one for one in found if not one.reading.problem]
        copies = audit.find_copies(readable)
        left_out = {entry.file for entry in copies.dropped}
        kept = [one for one in readable if one.image.file not in left_out]
        near = audit.find_near_duplicates(kept, dataset_params.duplicate_distance)
        index = _index(kept, near.groups, spec, preprocess_params, cell_seed(seed, spec.name, "split"))
        index.to_csv(folder / INDEX, index=False, lineterminator="\n", float_format="%.9g")
        traits = _traits(kept, spec)
        traits.to_csv(folder / TRAITS, lineterminator="\n")
        places = {one.image.file: place for place, one in enumerate(found)}
        _keep_rows(arrays, [places[one.image.file] for one in kept], bool(index["has_mask"].any()))
        record = Audit(
            dataset=spec.name,
            classes=spec.classes,
            image_size_px=preprocess_params.image_size_px,
            data_sha256=sha256_of(*(folder / name for name in (INDEX, IMAGES, MASKS) if (folder / name).exists())),
            images=len(kept),
            images_per_class=_counts(index, spec),
            images_per_split={split: _counts(index[index["split"] == split], spec) for split in SPLITS},
            masks=int(index["has_mask"].sum()),
            exact_duplicates=copies.count,
            duplicate_groups=near.files,
            label_conflicts=copies.conflicts,
            dropped=(*audit.unreadable(found), *copies.dropped, *_not_used(scan)),
            flagged=(*audit.odd_masks(kept, spec), *near.flagged),
            traits={name: dict(sorted(Counter(traits[name]).items())) for name in spec.traits},
        )
        record.write(folder)
    _report(record)
    return record


def _read_all(
    images: Sequence[ImageFile],
    arrays: Arrays,
    spec: DatasetSpec,
    processes: int,
    progress: Callable[[int, int], None],
) -> list[Found]:
    """Reads every image; the arrays then hold a square for each, blank where it cannot be read."""
    side = arrays.image_size_px
    open_memmap(arrays.images, "w+", np.uint8, (len(images), side, side, 3))
    open_memmap(arrays.masks, "w+", np.uint8, (len(images), side, side))
    read, found = partial(read_image, arrays, spec.traits), []
    with mapper(processes) as spread, tqdm(total=len(images), desc="prepare", unit="image", disable=None) as bar:
        for image, reading in zip(images, spread(read, enumerate(images)), strict=True):
            found.append(Found(image, reading))
            bar.update()
            progress(len(found), len(images))
    return found


def _index(
    kept: Sequence[Found],
    groups: Int64[np.ndarray, " n"],
    spec: DatasetSpec,
    params: PreprocessParams,
    seed: int,
) -> pd.DataFrame:
    labels = np.array([spec.classes.index(one.image.class_name) for one in kept], dtype=np.int64)
    splits = split_groups(labels, groups, spec.classes, params.validation_fraction, params.test_fraction, seed)
    return pd.DataFrame(
        {
            "row": range(len(kept)),
            "file": [one.image.file for one in kept],
            "class": [one.image.class_name for one in kept],
            "label": labels,
            "split": [SPLITS[split] for split in splits],
            "group": groups,
            "sha256": [one.reading.sha256 for one in kept],
            "has_mask": [one.reading.mask_fraction is not None for one in kept],
        }
    )


def _traits(kept: Sequence[Found], spec: DatasetSpec) -> pd.DataFrame:
    """A column for each trait, by row."""
    columns = {name: [one.reading.traits[name] for one in kept] for name in spec.traits}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(kept), name="row"))


def _keep_rows(arrays: Arrays, rows: Sequence[int], with_masks: bool) -> None:
    """Turns the arrays of all files into those of the files kept; masks only where there are any."""
    for path, name, needed in ((arrays.images, IMAGES, True), (arrays.masks, MASKS, with_masks)):
        if needed:
            source = np.load(path, mmap_mode="r")
            target = open_memmap(path.with_name(name), "w+", np.uint8, (len(rows), *source.shape[1:]))
            for start in range(0, len(rows), COPIED_AT_ONCE):
                block = slice(start, start + COPIED_AT_ONCE)
                target[block] = source[rows[block]]
            target.flush()
        path.unlink()


def _counts(index: pd.DataFrame, spec: DatasetSpec) -> dict[str, int]:
    return {name: int((index["class"] == name).sum()) for name in spec.classes}


def _not_used(scan: Scan) -> list[Dropped]:
    masks = [Dropped(file=file, reason="mask without its image") for file in scan.orphan_masks]
    return masks + [Dropped(file=file, reason="in no folder named as a class") for file in scan.strays]


def _report(record: Audit) -> None:
    log.info(
        "%s: %d images kept, %d files dropped, %d flagged; %d groups of near-duplicates, %d images under two labels",
        record.dataset, record.images, len(record.dropped), len(record.flagged), len(record.duplicate_groups),
        len(record.label_conflicts),
    )  # fmt: skip
    for entry in record.dropped:
        log.warning("%s: dropped %s: %s", record.dataset, entry.file, entry.reason)
