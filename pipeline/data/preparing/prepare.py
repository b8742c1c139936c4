"""From a raw folder to data/prepared/<d>: arrays of squares, an index whose split does not leak, traits, an audit."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.lib.format import open_memmap
from tqdm import tqdm

from pipeline.data.index import ImageFile, scan_folder
from pipeline.data.preparing.audit import refuse_if_too_many_unusable
from pipeline.data.preparing.audit_record import audit_of, report
from pipeline.data.preparing.file_tables import FILES, LINKS, file_table, link_table
from pipeline.data.preparing.judging import Judged, judge
from pipeline.data.preparing.reading import Found, Plan, files_of, read_image
from pipeline.data.workers import mapper
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_folder
from pipeline.params import DatasetParams, PreprocessParams
from pipeline.records import Audit
from pipeline.spec import DatasetSpec

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
    spec = replace(spec, classes=scan.classes)
    with whole_folder(prepared_folder) as folder:
        plan = Plan(
            raw=raw_folder,
            images=folder / "all_images.npy",
            masks=folder / "all_masks.npy",
            image_size_px=preprocess_params.image_size_px,
            traits=spec.traits,
            features=dataset_params.overlap_correlation is not None,
        )
        found = _read_all(scan.images, plan, spec.name, processes, progress)
        refuse_if_too_many_unusable(found, preprocess_params.max_unreadable_fraction, str(raw_folder))
        judged = judge(found, raw_folder, spec, dataset_params, preprocess_params, seed)
        index, traits = _index(judged, spec), _traits(judged.kept, spec)
        index.to_csv(folder / INDEX, index=False, lineterminator="\n", float_format="%.9g")
        traits.to_csv(folder / TRAITS, lineterminator="\n")
        places = {one.image.file: place for place, one in enumerate(found)}
        _keep_rows(plan, [places[one.image.file] for one in judged.kept], bool(index["has_mask"].any()))
        whole = sha256_of(*(folder / name for name in (INDEX, IMAGES, MASKS)))
        record = audit_of(scan, found, judged, index, spec, dataset_params, plan.image_size_px, whole)
        file_table(found, index, record).to_csv(folder / FILES, index=False, lineterminator="\n", float_format="%.6g")
        link_table(judged).to_csv(folder / LINKS, index=False, lineterminator="\n", float_format="%.4g")
        record.write(folder)
        record.prepared_set.write(folder)
    report(record)
    return record


def _read_all(
    images: Sequence[ImageFile], plan: Plan, name: str, processes: int, progress: Callable[[int, int], None]
) -> list[Found]:
    """Reads every image; the arrays then hold a square for each, blank where it cannot be read."""
    side = plan.image_size_px
    _reserve(plan.images, (len(images), side, side, 3))
    _reserve(plan.masks, (len(images), side, side))
    read, found = partial(read_image, plan), []
    with (
        mapper(processes) as spread,
        tqdm(total=len(images), desc=f"prepare {name}", unit="image", disable=None) as bar,
    ):
        for image, reading in zip(images, spread(read, enumerate(images)), strict=True):
            found.append(Found(image, reading))
            bar.update()
            progress(len(found), len(images))
    return found


def _reserve(path: Path, shape: tuple[int, ...]) -> None:
    """A file of zeros that has its place on the disk: on a full one, writing to a mapped file without kills us."""
    open_memmap(path, "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _index(judged: Judged, spec: DatasetSpec) -> pd.DataFrame:
    kept = judged.kept
    return pd.DataFrame(
        {
            "row": range(len(kept)),
            "file": files_of(kept),
            "class": [one.image.class_name for one in kept],
            "label": [spec.classes.index(one.image.class_name) for one in kept],
            "split": judged.splits,
            "group": judged.likeness.groups,
            "sha256": [one.reading.sha256 for one in kept],
            "has_mask": [one.reading.mask_fraction is not None for one in kept],
        }
    )


def _traits(kept: Sequence[Found], spec: DatasetSpec) -> pd.DataFrame:
    """A column for each trait, by row."""
    columns = {name: [one.reading.traits[name] for one in kept] for name in spec.traits}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(kept), name="row"))


def _keep_rows(plan: Plan, rows: Sequence[int], with_masks: bool) -> None:
    """Turns the arrays of all files into those of the files kept; the masks' is empty where there are none.

    The files are mapped anew for each block, so that no more than a block of them is held at a time.
    """
    for path, name, wanted in ((plan.images, IMAGES, rows), (plan.masks, MASKS, rows if with_masks else [])):
        target, shape = path.with_name(name), np.load(path, mmap_mode="r").shape[1:]
        _reserve(target, (len(wanted), *shape))
        for start in range(0, len(wanted), COPIED_AT_ONCE):
            block = slice(start, start + COPIED_AT_ONCE)
            np.load(target, mmap_mode="r+")[block] = np.load(path, mmap_mode="r")[wanted[block]]
        path.unlink()
