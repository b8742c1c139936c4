"""The page of an audit: its numbers against those counted by hand, hostile names, empty parts, leaks, a real browser."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flows.layout import audit_dir, prepared_dir, raw_dir
from pipeline.data.sets.busi import BUSI
from pipeline.data.sets.pbc import PBC
from pipeline.errors import StudyError
from pipeline.records import SourceReceipt
from pipeline.report.audit_page import write_audit_page
from pipeline.report.audit_page.likeness import near_train, picture_groups
from pipeline.report.audit_page.masks import ENDS, coverages
from pipeline.report.audit_page.reading import read_audited_set
from pipeline.report.audit_page.traits import DETECTORS, trait_tables
from pipeline.report.audit_page.verdicts import Verdict
from pipeline.report.audit_page.words import in_bytes, printable, share
from tests.data.sets import PARAMS, SIDE, box, encoded, make_busi, make_classes, noise, prepare, write

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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
    SourceReceipt(dataset="busi", source=source, sha256=sha256, size_bytes=size_bytes, images=17, left_out=3).write_to(
        world.raw.with_suffix(".json")
    )
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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Not to be written to, but for its audit."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def own_world(world: World, tmp_path: Path) -> World:
    """A copy that the test may change."""
    shutil.copytree(world.folder, tmp_path / "own")
    return World(tmp_path / "own")


def split_anew(world: World, **splits: str) -> None:
    """Edits index.csv: the split of each file that ends with the name given, blanks as underscores."""
    path = world.prepared / "index.csv"
    index = pd.read_csv(path)
    for name, split in splits.items():
        index.loc[index["file"].str.endswith(f"{name.replace('_', ' ')}.png"), "split"] = split
    index.to_csv(path, index=False)


def test_the_verdicts_are_those_counted_by_hand(world: World) -> None:
    assert world.found() == {
        "test images with a near-copy in train": ("fine", "0"),
        "groups that stand in two splits": ("fine", "0 of 12 groups"),
        "classes in every split": ("fine", "all 3 of them"),
        "patients": ("look", "no patient ids: the split cannot be patient-disjoint"),
        "split": ("note", "made by the study: by class, and what belongs together on one side"),
        "images under two labels": ("look", "1 picture in 2 files, dropped under each"),
        "look-alikes under two labels": ("fine", "0"),
        "unreadable images": ("look", "1 of 17: top/benign/zero.png"),
        "images with a refused mask": ("look", "1, taken for images without a mask"),
        "images without a mask": ("look", "2 of 13"),
        "odd masks": (
            "look",
            "1 empty where a lesion is expected; 1 covering nearly all of the image; "
            "1 outlining a lesion where none is expected",
        ),
        "burnt in marks by class": (
            "fine",
            "no more uneven than by chance; plain: from 0 % of malignant to 40 % of benign",
        ),
        "mode by class": ("fine", "no more uneven than by chance; L: from 0 % of malignant to 40 % of benign"),
    }


def test_each_verdict_stands_on_the_page_with_a_sign_that_is_a_word(world: World) -> None:
    page = world.page()
    assert "✓ fine test images with a near-copy in train: 0" in page.sections["verdicts"]
    assert "! look images under two labels: 1 picture in 2 files, dropped under each" in page.sections["verdicts"]
    assert "– note split: made by the study" in page.sections["verdicts"]


def test_the_classes_are_counted_as_in_the_index(world: World) -> None:
    counts = pd.read_csv(world.prepared / "index.csv").groupby(["class", "split"]).size()
    benign, all_ = (
        [int(part[split].sum()) for split in ("train", "validation", "test")]
        for part in (counts["benign"], counts.swaplevel().sort_index())
    )
    table = world.page().sections["classes"]
    assert f"benign {' '.join(map(str, benign))} 5 38 % malignant" in table
    assert f"all {' '.join(map(str, all_))} 13 100 %" in table
    assert sum(benign) == 5


def test_a_trait_is_told_by_level_class_and_split_with_its_shares(world: World) -> None:
    levels = world.page().sections["traits"]
    assert "burnt in marks ✓ even plain: from 0 % of malignant to 40 % of benign." in levels
    assert levels.index("40 % 2 of 5") < levels.index("60 % 3 of 5")
    assert "0 % 0 of 4" in levels
    assert "100 % 4 of 4" in levels


def test_masks_are_counted_and_drawn_by_the_share_they_cover(world: World) -> None:
    masks = world.page().sections["masks"]
    assert "outline a lesion 6 empty, as their class is without lesion 3 images without a mask 2" in masks
    assert "which count as having none 1 empty, though their class has a lesion 1 covering nearly all" in masks
    assert "inverted? 1 outlining something in a class without lesion 1" in masks
    assert "benign , median 25.0 % where not empty 1 0 1 2 5 10 20 2 40 80 100 malignant" in masks
    assert "malignant , median 25.0 % where not empty 0 1 2 5 10 20 2 40 80 1 100 normal" in masks


def test_methods_are_told_with_threshold_links_and_images(world: World) -> None:
    methods = world.page().sections["duplicates"]
    assert "under two labels none 2 4 perceptual hash at most 4 of 64 bits differ 1 2 shifted cuts" in methods
    assert "shifted cuts of one field not sought 0 0" in methods
    assert "curated" not in methods


def test_groups_and_conflicts_are_shown_with_what_links_them(world: World) -> None:
    page = world.page()
    index = pd.read_csv(world.prepared / "index.csv").set_index("file")["split"]
    copied, near = index["top/benign/benign (0).png"], index["top/benign/near a.png"]
    assert (
        f"1 benign {copied} benign (0).png 2 benign left out copy.png 1 and 2: equal pixels." in page.sections["groups"]
    )
    assert f"1 benign {near} near a.png 2 benign {near} near b.png 1 and 2: 0 of 64 bits" in page.sections["groups"]
    shown = "1 benign left out benign/benign (1).png 2 malignant left out malignant/x.png ! two labels 1 and 2: equal"
    assert shown in page.sections["conflicts"]
    assert len(page.pictures) == 6


def test_files_are_counted_by_class_and_size(world: World) -> None:
    files = world.page().sections["files"]
    assert "size in px 32 × 32 5 4 4 13 100 % format PNG 5 4 4 13 100 %" in files
    assert "kind of pixels RGB 3 4 4 11 85 % L 2 0 0 2 15 %" in files
    sizes = [(world.raw / file).stat().st_size for file in pd.read_csv(world.prepared / "index.csv")["file"]]
    assert f"smallest {min(sizes)} bytes" in files
    assert f"together {sum(sizes) / 1000:.1f} kB" in files


def test_what_was_left_out_or_flagged_is_listed_with_its_reason(world: World) -> None:
    page = world.page()
    assert "Left out: 5 file reason top/benign/zero.png cannot be read: the file is empty" in page.sections["left-out"]
    assert "Flagged, but kept: 3" in page.sections["flagged"]
    assert "benign (2).png its mask is empty, but its class is benign" in page.sections["flagged"]
    assert "13 images in 3 classes entered the study" in page.sections[""]
    assert "5 files left out, 3 flagged" in page.sections[""]


def test_the_source_is_told_with_its_hash_and_size(own_world: World) -> None:
    add_receipt(own_world, "Dataset_BUSI.zip", "ab" * 32, 206_000_000)
    page = own_world.page()
    assert (
        f"source Dataset_BUSI.zip sha256 of the archive {'ab' * 32} size of the archive 206.0 MB"
        in (page.sections["source"])
    )
    assert "images found 17 files left out when it was fetched 3" in page.sections["source"]
    assert "Synthetic images" not in page.sections[""]
    assert "not of patients" in Page(make_phantom_text(own_world)).sections[""]


def make_phantom_text(world: World) -> str:
    add_receipt(world).write()
    return world.text()


def test_a_split_that_leaks_is_a_fault(own_world: World) -> None:
    split_anew(own_world, near_a="train", near_b="test")
    found = own_world.found()
    assert found["test images with a near-copy in train"] == (
        "fault",
        "1: top/benign/near b.png; scores of this test split say too much",
    )
    assert found["groups that stand in two splits"] == ("fault", "1 of 12 groups")
    assert "✗ fault test images with a near-copy in train: 1" in Page(own_world.text()).sections["verdicts"]


def test_a_leak_is_found_along_a_chain_of_links(own_world: World) -> None:
    files = ["top/normal/normal (0).png", "top/normal/normal (1).png", "top/normal/normal (2).png"]
    links = pd.DataFrame({"first": files[:2], "second": files[1:], "method": "overlap", "value": 0.99})
    links.to_csv(own_world.prepared / "links.csv", index=False)
    split_anew(own_world, **{"normal_(0)": "train", "normal_(1)": "validation", "normal_(2)": "test"})
    leaking = near_train(picture_groups(read_audited_set(own_world.raw, own_world.prepared)))
    assert leaking == files[2:]


def test_images_of_one_patient_are_no_copies_of_each_other(own_world: World) -> None:
    links = pd.DataFrame(
        {"first": ["top/normal/normal (0).png"], "second": ["top/normal/normal (1).png"], "method": "given_group"}
    )
    links.assign(value=0).to_csv(own_world.prepared / "links.csv", index=False)
    assert picture_groups(read_audited_set(own_world.raw, own_world.prepared)) == []


def test_look_alikes_under_two_labels_come_first(own_world: World) -> None:
    pair = {"first": ["top/benign/near a.png"], "second": ["top/normal/normal (3).png"], "method": "overlap"}
    links = pd.read_csv(own_world.prepared / "links.csv")
    pd.concat([links, pd.DataFrame(pair).assign(value=0.987)]).to_csv(own_world.prepared / "links.csv", index=False)
    assert own_world.found()["look-alikes under two labels"] == ("look", "1 group, 3 images, kept and flagged")
    groups = Page(own_world.text()).sections["groups"]
    assert groups.index("1 and 3: cuts of one field, correlation 0.987") < groups.index("equal pixels")
    assert groups.count("! two labels") == 1


def test_a_class_that_a_split_lacks_is_a_fault(own_world: World) -> None:
    path = own_world.prepared / "index.csv"
    index = pd.read_csv(path)
    index.loc[(index["class"] == "normal") & (index["split"] == "test"), "split"] = "train"
    index.to_csv(path, index=False)
    assert own_world.found()["classes in every split"] == ("fault", "test lacks normal")


def test_groups_and_splits_that_the_set_gives_are_told(own_world: World) -> None:
    path = own_world.prepared / "audit.json"
    text = path.read_text().replace('"table": ""', '"table": "visits.csv"').replace('"groups": ""', '"groups": "woman"')
    text = text.replace('"given_groups": 0', '"given_groups": 9').replace(
        '"given_splits": false', '"given_splits": true'
    )
    path.write_text(text)
    found = own_world.found()
    assert found["patients, or what else must not be torn apart"] == ("fine", "9 values of woman in the set's table")
    assert found["split"] == ("note", "given by visits.csv")
    assert "groups of the set's own table equal woman 0 0" in Page(own_world.text()).sections["duplicates"]


def test_parts_with_nothing_to_say_are_left_out(tmp_path: Path) -> None:
    make_classes(tmp_path / "raw", PBC, 3)
    prepare(tmp_path / "raw", tmp_path / "prepared", spec=PBC)
    world = add_receipt(World(tmp_path))
    page = world.page()
    assert list(page.sections) == ["", "verdicts", "source", "classes", "traits", "duplicates", "files"]
    assert page.pictures == []
    assert re.findall(r'href="#([^"]+)"', world.text()) == ["main", *list(page.sections)[1:]]
    assert world.found()["masks"] == ("note", "none: where heatmaps ought to point cannot be told")


HOSTILE = (
    "<script>alert(1)<!--.png",
    '"onerror="alert(1).png',
    "'quoted' & &amp;.png",
    "two\nlines\r.png",
    "{{ 7 * 7 }}.png",
    "\u202egnp.exe.png",
    "=cmd|' C'!A0.png",
)


def test_hostile_names_are_escaped_wherever_they_stand(tmp_path: Path) -> None:
    top = make_busi(tmp_path / "raw")
    for number, name in enumerate(HOSTILE):
        write(top / "benign" / f"kept {number}.png", encoded(noise(900 + number)))
        write(top / "benign" / name, encoded(noise(900 + number)))
    write(top / "<b>stray</b>.png", b"")
    prepare(tmp_path / "raw", tmp_path / "prepared")
    world = add_receipt(World(tmp_path))
    page = world.page()
    assert page.open == []
    assert not {"script", "b"} & page.tags
    assert all(set(picture) == {"src", "alt", "decoding"} for picture in page.pictures)
    for name in (HOSTILE[0], HOSTILE[1], HOSTILE[2], "two\\nlines\\r.png", "{{ 7 * 7 }}.png", "\\u202egnp.exe.png"):
        assert name in page.sections["groups"]
        assert name in page.sections["left-out"]
    assert "49" not in page.sections["groups"]


def test_the_first_groups_members_and_files_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    top = make_busi(tmp_path / "raw")
    for number in range(25):
        for copy in range(10 if number == 0 else 2):
            write(top / "normal" / f"n{number}-{copy}.png", encoded(noise(700 + number)))
    for number in range(203):
        write(tmp_path / "raw" / "strays" / f"{number}.png", b"")
    prepare(tmp_path / "raw", tmp_path / "prepared")
    world = add_receipt(World(tmp_path))
    page = world.page()
    assert len(page.pictures) == 8 + 23 * 2
    assert "25 groups of images" in page.sections["groups"]
    assert page.sections["groups"].endswith("And 1 more in data/prepared/busi/links.csv .")
    assert "1 and 8: equal pixels; and 2 more images." in page.sections["groups"]
    assert page.sections["left-out"].endswith(
        "And 37 more in data/prepared/busi/audit.json ."
    )  # 9 + 24 copies, 203 + 1


def test_the_same_set_gives_the_same_bytes_and_no_path_of_this_machine(world: World) -> None:
    world.write("once")
    world.write("again")
    assert world.text("once") == world.text("again")
    assert str(world.folder) not in world.text("once")
    assert [path.name for path in (world.folder / "once").iterdir()] == ["audit.html"]


def test_the_page_needs_nothing_from_anywhere(world: World) -> None:
    page = world.page()
    assert not re.search(r"src=.?https?://|<link|<script|@import|url\(", world.text())
    assert all((picture["src"] or "").startswith("data:image/") and picture["alt"] for picture in page.pictures)
    assert page.open == []


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("prepared/files.csv", "files.csv: no such file; run `dvc repro -f preprocess@busi`"),
        ("prepared/links.csv", "links.csv: no such file; run `dvc repro -f preprocess@busi`"),
        ("raw.json", "raw.json: no such file"),
        ("raw/top/benign/near a.png", "near a.png: is no longer the image that was prepared"),
    ],
)
def test_a_missing_file_is_named_and_nothing_is_written(own_world: World, file: str, message: str) -> None:
    shutil.rmtree(own_world.folder / "audit", ignore_errors=True)
    (own_world.folder / file).unlink()
    with pytest.raises(StudyError, match=re.escape(message)):
        own_world.write()
    assert not (own_world.folder / "audit").exists()


@pytest.mark.parametrize(
    ("table", "content", "message"),
    [
        ("files.csv", "file,class\na,b\n", "files.csv or links.csv is damaged"),
        ("links.csv", "first,second,method,value\nelsewhere.png,x.png,overlap,1\n", "does not list 'elsewhere.png'"),
        ("links.csv", "", "links.csv is damaged"),
    ],
)
def test_tables_that_do_not_fit_are_refused(own_world: World, table: str, content: str, message: str) -> None:
    (own_world.prepared / table).write_text(content)
    with pytest.raises(StudyError, match=re.escape(message)):
        own_world.write()


@given(st.text())
def test_a_printable_text_says_all_and_hides_nothing(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize(
    ("count", "of", "text"),
    [(0, 7, "0 %"), (1, 1000, "< 1 %"), (999, 1000, "> 99 %"), (7, 7, "100 %"), (1, 3, "33 %"), (0, 0, "0 %")],
)
def test_a_share_is_rounded_to_all_or_nothing_only_if_it_is(count: int, of: int, text: str) -> None:
    assert share(count, of) == text


def test_bytes_are_told_in_powers_of_a_thousand() -> None:
    assert [in_bytes(size) for size in (999.0, 1500.0, 281e6, 2.5e9)] == ["999 bytes", "1.5 kB", "281.0 MB", "2.5 GB"]


@given(st.lists(st.floats(0, 1), min_size=1))
def test_every_mask_stands_in_the_one_bar_that_ends_at_or_above_its_share(fractions: list[float]) -> None:
    kept = pd.DataFrame({"class": "benign", "mask_fraction": fractions})
    slow = [0] * len(ENDS)
    for fraction in fractions:
        slow[next(place for place, end in enumerate(ENDS) if 100 * fraction <= end)] += 1
    expected = [tuple(slow)] if any(fractions) else []
    assert [each.bars for each in coverages(kept, ("benign", "normal"))] == expected


def test_a_trait_that_tells_the_class_is_uneven() -> None:
    """20 images of each class; all of one and none of the other are marked: V is 1."""
    kept = pd.DataFrame({"class": ["a"] * 20 + ["b"] * 20, "split": "train", "format": "PNG", "mode": "RGB"})
    told, untold = kept.assign(ink=kept["class"].map({"a": "yes", "b": "no"})), kept.assign(ink=["yes", "no"] * 20)
    [uneven], [even] = (trait_tables(each, ["ink"], ("a", "b")) for each in (told, untold))
    assert (uneven.uneven, uneven.association, uneven.summary) == (
        True,
        pytest.approx(1),
        "no: from 0 % of a to 100 % of b",
    )
    assert (even.uneven, even.association) == (False, pytest.approx(0))
    assert uneven.levels["yes"][0].counts == ((20, 20), (0, 0), (0, 0), (20, 20))


def test_what_is_said_of_the_detector_is_what_the_table_of_its_measurements_says() -> None:
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| .* \| \d+ of \d+ \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    precision, recall = (min(column) for column in zip(*rows, strict=True))
    assert f"precision was at least {precision}" in DETECTORS["burnt_in_marks"]
    assert f"recall at least {recall}" in " ".join(DETECTORS["burnt_in_marks"].split())
    assert "All 640 images of the real sample" in text


def test_the_stage_reads_and_writes_where_the_flow_does() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["audit"]["do"]
    item = "${item}"
    assert stage["cmd"] == f"python -m flows.audit --dataset {item}"
    assert stage["outs"] == [str(audit_dir(item))]
    assert {str(raw_dir(item)), f"{raw_dir(item)}.json", str(prepared_dir(item))} <= set(stage["deps"])
    assert all((ROOT / path).exists() for path in stage["deps"] if not path.startswith("data/"))


@pytest.fixture(scope="module")
def address(world: World) -> str:
    world.write("seen")
    return (world.folder / "seen" / "audit.html").as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on this machine")
    with driver.sync_playwright() as held:
        browser = held.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_a_browser_shows_it_without_complaint_and_axe_finds_nothing(chromium, address: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page, asked, complaints = chromium.new_page(viewport={"width": width, "height": 900}), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(address)
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true; })")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth === 32)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert axe.Axe().run(page).response["violations"] == complaints == []
    page.close()
