"""The images to pre-train on: each source fetched and prepared as the study prepares its sets, once for all models.

Same split rule, same seed: where a source is the study's own, its validation and test images are never trained on.
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from pipeline.data import DATASETS, spec_of
from pipeline.data.fetching.source import PHANTOM, fetch_source, phantom_section
from pipeline.data.preparing.prepare import TRAITS, prepare_dataset
from pipeline.data.sets.unlabelled import unlabelled
from pipeline.params import DatasetParams, Params, PhantomParams, PhantomSection
from pipeline.records import Audit
from pipeline.spec import DatasetSpec

log = logging.getLogger(__name__)

UNLABELLED_DISTANCE = 4  # perceptual-hash bits up to which images of a set without a section are near-duplicates
KEY_LENGTH = 12


@dataclass(frozen=True)
class Source:
    """All that decides one prepared set of the corpus."""

    spec: DatasetSpec
    dataset: DatasetParams
    phantom: PhantomParams

    @property
    def key(self) -> str:
        """The key of params.yaml that names it."""
        return f"pretraining.sources.{self.spec.name}"


def sources_of(params: Params) -> list[Source]:
    """The sources in the order of params.yaml; a name that is no known set's stands for images without labels."""
    return [_source(params, name, source) for name, source in params.pretraining.sources.items()]


def _source(params: Params, name: str, source: str) -> Source:
    """The set as the study describes it, from wherever pre-training is to take it."""
    own = params.datasets.get(name)
    if own is None:
        dataset = DatasetParams(source=source, duplicate_distance=UNLABELLED_DISTANCE)
        spec = DATASETS.get(name) or unlabelled(name)
    else:
        pins = {} if source == own.source else {"sha256": None, "size_bytes": None}  # they are of the study's archive
        dataset, spec = own.model_copy(update={"source": source, **pins}), spec_of(name, own)
    return Source(spec, dataset, _fresh_phantoms(params))


def _fresh_phantoms(params: Params) -> PhantomParams:
    """The study's phantoms with another seed and in other numbers, without planted copies and wrong labels."""
    own = params.pretraining
    changes: dict[str, PhantomSection] = {
        str(name): section.model_copy(
            update={
                "images_per_class": count,
                "near_copy_fraction": 0.0,
                "label_conflicts": 0,
                "shortcut_fraction": 0.0,
            }
        )
        for name, count in own.images_per_class.items()
        for section in (getattr(params.phantom, name),)
    }
    return params.phantom.model_copy(update={"seed": own.seed, **changes})


def prepare_sources(params: Params, folder: Path, progress: Callable[[int, int], None]) -> list[Path]:
    """The prepared sets of all sources, made where `folder` does not hold them yet.

    Several processes may call at once: one prepares, the others wait.

    Raises:
        StudyError: a source is absent, or cannot be prepared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        return [_prepare(source, params, folder, progress) for source in sources_of(params)]


def _prepare(source: Source, params: Params, folder: Path, progress: Callable[[int, int], None]) -> Path:
    name, threads = source.spec.name, params.study.threads
    prepared = folder / f"{name}-{_fingerprint(source, params)}"
    if all((prepared / name).is_file() for name in (Audit.file_name, TRAITS)):  # older corpora have no traits
        log.info("%s: prepared already, in %s", name, prepared)
        return prepared
    with TemporaryDirectory(dir=folder) as scratch:
        raw = Path(scratch) / name
        fetch_source(source.spec, source.dataset, source.phantom, raw, threads, progress, source.key)
        prepare_dataset(
            source.spec, source.dataset, params.preprocess, params.study.seed, raw, prepared, threads, progress
        )
    return prepared


def _fingerprint(source: Source, params: Params) -> str:
    """Of all that decides the prepared set; of files, their names, sizes and times."""
    if source.dataset.source == PHANTOM:
        section = phantom_section(source.spec.kind, source.phantom, source.key)
        origin: object = section.model_dump() | {"seed": source.phantom.seed}
    else:
        path = Path(source.dataset.source).expanduser()
        files = sorted(path.rglob("*")) if path.is_dir() else [path] if path.exists() else []
        origin = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]
    deciding = [origin, source.dataset.model_dump(), params.preprocess.model_dump(), params.study.seed]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:KEY_LENGTH]
