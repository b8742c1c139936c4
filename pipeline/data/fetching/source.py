"""Bring the set that `datasets.<d>.source` names to data/raw/<d>: phantoms, an address, a folder, an archive or a
MedMNIST file; and with it the tables that describe or curate it, so that all that is from outside comes in here.
"""

import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from pipeline.data.fetching.archive import unpack
from pipeline.data.fetching.download import download
from pipeline.data.fetching.limits import check_room, room_in
from pipeline.data.fetching.medmnist import unpack_medmnist
from pipeline.data.index import ImageFile, scan_folder
from pipeline.data.names import is_hidden, is_image_file, list_files
from pipeline.data.phantom.archive import write_phantom
from pipeline.data.sets.own import MEDMNIST
from pipeline.errors import StudyError
from pipeline.files import base_name, files_under, is_absolute, is_address, sha256_of, told, whole_folder
from pipeline.params import CellPhantomParams, DatasetParams, PhantomParams, UltrasoundPhantomParams
from pipeline.records import SourceReceipt
from pipeline.spec import DatasetSpec

log = logging.getLogger(__name__)

PHANTOM = "phantom"
TELLING_LETTERS = 4  # shorter values of a group occur in file names by chance


@dataclass(frozen=True)
class Located:
    """A source on this machine."""

    path: Path
    shown: str  # as the user wrote it, without secrets
    sha256: str = ""  # of an archive
    size_bytes: int = 0


def fetch_source(
    spec: DatasetSpec,
    params: DatasetParams,
    phantom_params: PhantomParams,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
    key: str,
) -> SourceReceipt:
    """Fill `folder` with the images and masks of the set in its archive's own layout; whole, or not at all.

    The receipt is written beside it, to <folder>.json. What was fetched before stays where the source is not on this
    machine: whoever pulled the images need not have the archive.

    Args:
        key: of params.yaml, under which the source stands; for messages.

    Raises:
        StudyError: the source is absent, is not the one that is pinned or cannot be trusted, or a class has no image.
    """
    if before := _fetched_before(folder, params):
        log.warning(
            "%s: %s is not here; the images that were fetched from it stay", spec.name, source_name(params.source)
        )
        return before
    if params.source == PHANTOM:
        found, section = Located(Path(), PHANTOM), phantom_section(spec.kind, phantom_params, key)
        fill: Callable[..., int | None] = partial(
            write_phantom, spec.kind, section, phantom_params.seed, processes=processes
        )
    else:
        found = _locate(params, spec, key, progress)
        fill = partial(_copy, found, params)
    with whole_folder(folder) as incoming, tqdm(desc=f"fetch {spec.name}", unit="file", disable=None) as bar:
        left_out = fill(folder=incoming, progress=_both(bar, progress)) or 0
        _add_tables(params, incoming, _section(spec))
        images = scan_folder(incoming, spec, found.shown).images
    _warn_of_names(spec.name, images)
    log.info("%s: %d images from %s; %d other files left out", spec.name, len(images), found.shown, left_out)
    files, size = _held(folder)
    receipt = SourceReceipt(
        dataset=spec.name,
        source=source_name(params.source),
        sha256=found.sha256,
        size_bytes=found.size_bytes,
        images=len(images),
        left_out=left_out,
        files=files,
        bytes=size,
    )
    receipt.write_to(folder.with_suffix(".json"))
    return receipt


def _fetched_before(folder: Path, params: DatasetParams) -> SourceReceipt | None:
    """The receipt of what lies in `folder`, if it is of this source and the source itself is not here."""
    path, table_names = Path(params.source).expanduser(), {Path(value).name for _, value in _tables_of(params)}
    told_by = folder.with_suffix(".json")
    is_elsewhere = params.source != PHANTOM and not is_address(params.source) and not path.exists()
    if not (is_elsewhere and folder.is_dir() and told_by.is_file()):
        return None
    receipt = SourceReceipt.read_from(told_by)
    same = receipt.source == source_name(params.source) and params.sha256 in (None, receipt.sha256)
    whole = _held(folder) == (receipt.files, receipt.bytes)
    return receipt if same and whole and table_names <= {each.name for each in folder.rglob("*")} else None


def _held(folder: Path) -> tuple[int, int]:
    """Number and bytes of the files in it."""
    files = files_under(folder)
    return len(files), sum(file.stat().st_size for file in files)


def phantom_section(kind: str, params: PhantomParams, key: str) -> CellPhantomParams | UltrasoundPhantomParams:
    """How the phantoms of a set are drawn.

    Raises:
        StudyError: there are none of it.
    """
    sections: dict[str, CellPhantomParams | UltrasoundPhantomParams] = {"pbc": params.pbc, "busi": params.busi}
    if kind not in sections:
        raise StudyError(f"{key}: phantoms are drawn of {', '.join(sections)} only; give a folder or an archive")
    return sections[kind]


def _locate(params: DatasetParams, spec: DatasetSpec, key: str, progress: Callable[[int, int], None]) -> Located:
    """The folder or the verified archive on this machine."""
    if is_address(params.source):
        got = download(params.source, params.sha256, params.size_bytes, _section(spec), progress, _page_of(spec))
        return Located(got.path, source_name(params.source), got.sha256, got.size_bytes)
    path = Path(params.source).expanduser()
    if not path.exists():
        remedy = _page_of(spec) or "give the path of a folder or an archive"
        raise StudyError(f"{key}: {params.source}: no such file or folder; {remedy}")
    if path.is_dir():
        if params.sha256 or params.size_bytes:
            raise StudyError(
                f"{_section(spec)}.sha256: {params.source} is a folder, of which there is none; remove the key"
            )
        return Located(path, params.source)
    found = Located(path, params.source, sha256_of(path), path.stat().st_size)
    _verify(found, params, _section(spec))
    return found


def _page_of(spec: DatasetSpec) -> str:
    return f"the set is at {spec.source_url}" if spec.source_url else ""


def _section(spec: DatasetSpec) -> str:
    """The key of params.yaml that describes the set."""
    return f"datasets.{spec.name}"


def _verify(found: Located, params: DatasetParams, section: str) -> None:
    remedy = "get the archive again, or correct the key if this one is right"
    if params.size_bytes not in (None, found.size_bytes):
        raise StudyError(
            f"{section}.size_bytes: {found.shown} has {found.size_bytes:,}, not {params.size_bytes:,}; {remedy}"
        )
    if params.sha256 not in (None, found.sha256):
        raise StudyError(f"{section}.sha256: {found.shown} has {found.sha256}, not {params.sha256}; {remedy}")


def _copy(found: Located, params: DatasetParams, folder: Path, progress: Callable[[int, int], None]) -> int:
    """What the source holds of the set, copied or unpacked; the number of files left out."""
    if params.kind == MEDMNIST:
        return unpack_medmnist(found.path, folder, params.classes, progress, found.shown)
    inside = frozenset(PurePosixPath(name).name.casefold() for _, name in _tables_of(params) if not is_absolute(name))
    if found.path.is_dir():
        return copy_images(found.path, folder, progress, inside)
    return unpack(found.path, folder, progress, inside)


def copy_images(
    source: Path, folder: Path, progress: Callable[[int, int], None], kept_names: frozenset[str] = frozenset()
) -> int:
    """Copy the images and masks under `source`, names and layout kept, and count the files left out.

    Args:
        kept_names: further files to copy, by their names in lower case.

    Raises:
        StudyError: the folder to fill lies within the source, or on a disk without room.
    """
    if folder.resolve().is_relative_to(source.resolve()):
        raise StudyError(f"{source}: holds the place it is to be copied to; move the images elsewhere")
    paths = list_files(source, str(source))
    wanted = [path for path in paths if is_image_file(source, path) or path.name.casefold() in kept_names]
    wanted = [path for path in wanted if not is_hidden(path) and (source / path).is_file()]
    folder.mkdir(parents=True, exist_ok=True)
    check_room(sum((source / path).stat().st_size for path in wanted), room_in(folder), folder, str(source))
    for done, path in enumerate(wanted, start=1):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, folder / path)
        progress(done, len(wanted))
    return len(paths) - len(wanted)


def _tables_of(params: DatasetParams) -> list[tuple[str, str]]:
    """Keys and values of the tables that the set's entry names."""
    return [(key, value) for key, value in (("table", params.table), ("curated", params.curated)) if value]


def _add_tables(params: DatasetParams, folder: Path, section: str) -> None:
    """Leaves each table in the folder once: that of its path or name in the set, else one from outside, at the top."""
    paths = list_files(folder, section)
    for key, value in _tables_of(params):
        alike = [path for path in paths if path.name.casefold() == Path(value).name.casefold()]
        inside = [] if is_absolute(value) else _meant(value, alike)
        outside = Path(value).expanduser()
        if not inside and not outside.is_file():
            raise StudyError(f"{section}.{key}: {value}: no such file, neither in the set nor outside it")
        for path in {*alike} - {*inside}:
            (folder / path).unlink()
        if not inside:
            shutil.copyfile(outside, folder / outside.name)


def _meant(value: str, alike: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Of the files of that name those that a path in the set means: the one of that very path, or all that end so."""
    end = PurePosixPath(value.casefold())
    folded = {path: PurePosixPath(str(path).casefold()) for path in alike}
    whole = [path for path, key in folded.items() if key == end and "/" in value]
    return whole or [path for path, key in folded.items() if key.parts[-len(end.parts) :] == end.parts]


def _warn_of_names(name: str, images: Iterable[ImageFile]) -> None:
    """Files keep their names in every table that is made of the set."""
    named = sum(len(one.group) >= TELLING_LETTERS and one.group.casefold() in one.file.casefold() for one in images)
    if named:
        log.warning(
            "%s: files called by their patient or group: %d; names go into every table and report, so rename files and "
            "folders first if nobody may know",
            name, named,
        )  # fmt: skip


def source_name(source: str) -> str:
    """The source for a record: nothing of this machine, and nothing that may be a secret."""
    return told(source) if is_address(source) else base_name(source)


def _both(bar: tqdm, progress: Callable[[int, int], None]) -> Callable[[int, int], None]:
    """Moves the bar on the terminal, and whatever else watches."""

    def moved(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        progress(done, total)

    return moved
