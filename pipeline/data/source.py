"""Bring the set that `datasets.<d>.source` names to data/raw/<d>: synthetic images, a folder, or an archive."""

import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from pipeline.data.archive import unpack
from pipeline.data.index import is_image_name, list_files, scan_folder
from pipeline.data.phantom.archive import write_phantom
from pipeline.data.spec import DatasetSpec
from pipeline.errors import StudyError
from pipeline.files import whole_folder
from pipeline.params import CellPhantomParams, PhantomParams, UltrasoundPhantomParams

log = logging.getLogger(__name__)

PHANTOM = "phantom"
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def fetch_source(
    spec: DatasetSpec,
    source: str,
    phantom_params: PhantomParams,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
    key: str,
) -> None:
    """Fill `folder` with the images and masks of the set in its archive's own layout; whole, or not at all.

    Args:
        key: of params.yaml, under which the source stands; for messages.

    Raises:
        StudyError: the source is absent or cannot be trusted, or holds no image of some class.
    """
    phantom = phantom_section(spec.name, phantom_params, key) if source == PHANTOM else None
    path = Path() if phantom else _existing_path(source, spec, key)
    with whole_folder(folder) as partial, tqdm(desc=f"fetch {spec.name}", unit="file", disable=None) as bar:
        moved = _both(bar, progress)
        if phantom:
            skipped = 0
            write_phantom(spec.name, phantom, phantom_params.seed, partial, processes, moved)
        else:
            skipped = copy_images(path, partial, moved) if path.is_dir() else unpack(path, partial, moved)
        images = scan_folder(partial, spec, source).images
    log.info("%s: %d images from %s; %d other files left out", spec.name, len(images), source, skipped)


def phantom_section(dataset: str, params: PhantomParams, key: str) -> CellPhantomParams | UltrasoundPhantomParams:
    """How the phantoms of a set are drawn.

    Raises:
        StudyError: there are none of it.
    """
    sections: dict[str, CellPhantomParams | UltrasoundPhantomParams] = {"pbc": params.pbc, "busi": params.busi}
    if dataset not in sections:
        raise StudyError(f"{key}: phantoms are drawn of {', '.join(sections)} only; give a folder or an archive")
    return sections[dataset]


def _existing_path(source: str, spec: DatasetSpec, key: str) -> Path:
    hint = f"the set is at {spec.source_url}" if spec.source_url else "give the path of a folder or an archive"
    if URL.match(source):
        raise StudyError(f"{key}: {source} is an address; download it and give the file's path; {hint}")
    path = Path(source).expanduser()
    if not path.exists():
        raise StudyError(f"{key}: {source}: no such file or folder; {hint}")
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
