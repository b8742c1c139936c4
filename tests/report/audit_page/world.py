"""A made-up set with one of each thing that an audit finds, and what its page says."""

import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from pipeline.data.sets.busi import BUSI
from pipeline.records import SourceReceipt
from pipeline.report.audit_page import write_audit_page
from pipeline.report.audit_page.verdicts import Verdict
from tests.data.sets import PARAMS, SIDE, box, encoded, make_busi, prepare, write

LENIENT = PARAMS.model_copy(update={"max_unreadable_fraction": 0.5})
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The text of each section of a page, blanks made equal; its pictures; and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.sections: dict[str, str] = {}
        self.tags: set[str] = set()
        self._section = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        if tag == "section":
            self._section = found["id"] or ""
        if tag == "img":
            self.pictures.append(found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        held = f"{self.sections.get(self._section, '')} {data}"
        self.sections[self._section] = " ".join(held.split())


@dataclass(frozen=True)
class World:
    """A made-up set with the folders of its stages."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    def write(self, name: str = "audit") -> list[Verdict]:
        return write_audit_page(self.raw, self.prepared, self.folder / name)

    def text(self, name: str = "audit") -> str:
        return (self.folder / name / "audit.html").read_text(encoding="utf-8")

    def page(self) -> Page:
        self.write()
        return Page(self.text())

    def found(self) -> dict[str, tuple[str, str]]:
        """Check -> its sign and what was found."""
        return {each.check: (each.sign, each.found) for each in self.write()}


def add_receipt(world: World, source: str = "phantom", sha256: str = "", size_bytes: int = 0) -> World:
    SourceReceipt(
        dataset="busi", source=source, sha256=sha256, size_bytes=size_bytes, images=17, left_out=3, files=17, bytes=1
    ).write_to(world.raw.with_suffix(".json"))
    return world


def smooth(brightness: int) -> bytes:
    """A grey picture, the same but for its brightness, so that hashes agree and pixels do not."""
    coarse = np.random.default_rng(7).integers(40, 200, (6, 6), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return encoded(Image.fromarray(wide + np.uint8(brightness)))


def make_world(folder: Path) -> World:
    """17 images of busi, 13 of them kept: a copy, a near-copy, a conflict, an unreadable file and four odd masks."""
    top = make_busi(folder / "raw")
    benign, malignant, normal = (top / name for name in BUSI.classes)
    shutil.copy(benign / "benign (0).png", benign / "copy.png")
    shutil.copy(benign / "benign (1).png", malignant / "x.png")
    write(benign / "near a.png", smooth(0))
    write(benign / "near b.png", smooth(9))
    write(benign / "zero.png", b"")
    write(benign / "benign (2)_mask.png", encoded(box(part=0)))
    write(malignant / "malignant (0)_mask.png", encoded(box(part=0.9)))
    write(malignant / "malignant (1)_mask.png", encoded(box(40, 48)))
    write(normal / "normal (0)_mask.png", encoded(box()))
    prepare(folder / "raw", folder / "prepared", LENIENT)
    return add_receipt(World(folder))


def split_anew(world: World, splits: dict[str, str]) -> None:
    """Edits index.csv: the split of each file by the last part of its path."""
    path = world.prepared / "index.csv"
    index = pd.read_csv(path)
    for name, split in splits.items():
        index.loc[index["file"].str.endswith(f"/{name}"), "split"] = split
    index.to_csv(path, index=False)
