"""Where the weights that a fine-tuning starts from come from: the file's hash, its licence, and where that was read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.models.hub import PAGES
from pipeline.models.hub_folder import CONFIG, README, licence_in_readme
from pipeline.models.weights import FROM_SCRATCH, as_folder, is_tag, pretrained_cfg, receipt_of, weights_file

OWN_LICENCE = "Apache-2.0"  # this project's, and so that of its phantoms and of what learned from nothing else
NOT_STATED = "not stated by the file; ask whoever gave it to you"


@dataclass(frozen=True)
class Provenance:
    """Fields of the receipt, all empty from scratch. None of them says anything of this machine."""

    weights_sha256: str = ""
    weights_licence: str = ""
    weights_licence_source: str = ""
    weights_origin: str = ""


def provenance_of(arch: str, weights: str, wanted_sha256: str | None) -> Provenance:
    """Of the file that `weights` stands for; it is fetched if need be, and not yet read as weights.

    Raises:
        StudyError: there is no such file, or it is not the one wanted.
    """
    if weights == FROM_SCRATCH:
        return Provenance()
    file = weights_file(arch, weights)
    found = sha256_of(file)
    if wanted_sha256 not in (None, found):
        raise StudyError(
            f"weights_sha256: {file} has {found}, not {wanted_sha256}; give the file that is meant (one in the hub's "
            "cache is fetched anew once it is deleted), or its hash if this one is"
        )
    stated = ((licence, source) for licence, source in _statements(arch, weights, file) if licence)
    licence, source = next(stated, (NOT_STATED, ""))
    return Provenance(found, licence, source, _origin(arch, weights))


def _statements(arch: str, weights: str, file: Path) -> Iterator[tuple[str | None, str]]:
    """Where a licence may be stated, the most trustworthy first, and the licence, if one is."""
    receipt, name = receipt_of(file), arch.partition(".")[0]
    if receipt and set(receipt.sources.values()) == {"phantom"}:
        yield OWN_LICENCE, f"{file.stem}.json beside the file: this project's own pre-training on phantoms"
    if is_tag(weights):
        yield pretrained_cfg(arch, weights).license, f"timm's record of {name}.{weights}"
    elif as_folder(weights):
        yield pretrained_cfg(arch, weights).license, f"{CONFIG} beside the file"
    elif "." in arch:
        yield pretrained_cfg(arch, weights).license, f"timm's record of {arch}, which `arch` says the file to be"
    if is_tag(weights) or as_folder(weights):
        yield licence_in_readme(file.parent), f"{README} beside the file"


def _origin(arch: str, weights: str) -> str:
    """The page of the weights, where one is known."""
    if not is_tag(weights) and not as_folder(weights):
        return ""
    cfg = pretrained_cfg(arch, weights)
    return cfg.origin_url or (f"{PAGES}/{cfg.hf_hub_id}" if cfg.hf_hub_id else "")
