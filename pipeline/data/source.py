"""Bring the set that `datasets.<d>.source` names to data/raw/<d>: synthetic images, a folder, or an archive."""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from pipeline.data import get
from pipeline.data.archive import unpack
from pipeline.data.index import is_image_name, list_files, scan_folder
from pipeline.data.phantom.archive import write_phantom
from pipeline.data.spec import DatasetSpec
from pipeline.errors import StudyError
from pipeline.files import whole_folder
from pipeline.params import CellPhantomParams, DatasetParams, PhantomParams, UltrasoundPhantomParams

log = logging.getLogger(__name__)

PHANTOM = "phantom"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def fetch_source(
    dataset: str,
    dataset_params: DatasetParams,
    phantom_params: PhantomParams,
    seed: int,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> None:
    """Fill `folder` with the images and masks of the set in its archive's own layout; whole, or not at all.

    Raises:
        StudyError: the source is absent or cannot be trusted, or holds no image of some class.
    """
    spec, source = get(dataset), dataset_params.source
    path = None if source == PHANTOM else _existing_path(source, spec)
    with whole_folder(folder) as partial, tqdm(desc=f"fetch {dataset}", unit="file", disable=None) as bar:
        moved = _both(bar, progress)
        if path is None:
            skipped = 0
            write_phantom(dataset, getattr(phantom_params, dataset), seed, partial, processes, moved)
        else:
            skipped = copy_images(path, partial, moved) if path.is_dir() else unpack(path, partial, moved)
        images = scan_folder(partial, spec, source).images
    log.info("%s: %d images from %s; %d other files left out", dataset, len(images), source, skipped)


def _phantom_of(dataset: str, params: PhantomParams) -> CellPhantomParams | UltrasoundPhantomParams:
    sections: dict[str, CellPhantomParams | UltrasoundPhantomParams] = {"pbc": params.pbc, "busi": params.busi}
    if dataset not in sections:
        known = ", ".join(sections)
        raise StudyError(f"datasets.{dataset}.source: phantoms are drawn of {known} only; give a folder or an archive")
    return sections[dataset]


def _existing_path(source: str, spec: DatasetSpec) -> Path:
    key = f"datasets.{spec.name}.source"
    if URL.match(source):
        raise StudyError(f"{key}: {source} is an address; download it ({spec.source_url}) and give the file's path")
    path = Path(source).expanduser()
    if not path.exists():
        raise StudyError(f"{key}: {source}: no such file or folder; the set is at {spec.source_url}")
    return path


def copy_images(source: Path, folder: Path, progress: Callable[[int, int], None]) -> int:
    """Copy the images and masks under `source`, names and layout kept, and count the files left out.

    Raises:
        StudyError: the folder to fill lies within the source.
    """
    if folder.resolve().is_relative_to(source.resolve()):
        raise StudyError(f"{source}: holds the place it is to be copied to; move the images elsewhere")
    paths = list_files(source)
    wanted = [path for path in paths if is_image_name(path) and (source / path).is_file()]
    for done, path in enumerate(wanted, start=1):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
        progress(done, len(wanted))
    return len(paths) - len(wanted)


def _both(bar: tqdm, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Moves the bar on the terminal, and whatever else watches."""

    def moved(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        progress(done, total)

    return moved
