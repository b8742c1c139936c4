"""The page of an audit: numbers counted by hand, hostile names, empty parts, equal bytes, a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from pipeline.data.sets.pbc import PBC
from pipeline.records import Audit
from tests.data.sets import encoded, make_busi, make_classes, noise, prepare, write
from tests.report.audit_page.world import World, add_receipt

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
    assert "burnt in marks ✓ within chance plain: from 0 % of malignant to 40 % of benign." in levels
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


@pytest.mark.parametrize(
    ("litter", "told"),
    [(0, ""), (1, "1 further file in its folders is no image."), (2, "2 further files in its folders are no images.")],
)
def test_files_that_are_no_images_are_counted(own_world: World, litter: int, told: str) -> None:
    audit = Audit.read(own_world.prepared)
    audit.model_copy(update={"litter": litter}).write(own_world.prepared)
    assert f"each with the reason. {told} Left out: 5".replace("  ", " ") in own_world.page().sections["left-out"]


def test_the_source_is_told_with_its_hash_and_size(own_world: World) -> None:
    add_receipt(own_world, "Dataset_BUSI.zip", "ab" * 32, 206_000_000)
    page = own_world.page()
    assert (
        f"source Dataset_BUSI.zip sha256 of the archive {'ab' * 32} size of the archive 206.0 MB"
        in (page.sections["source"])
    )
    assert "images found 17 files left out when it was fetched 3" in page.sections["source"]
    assert "Synthetic images" not in page.sections[""]


def test_phantoms_are_not_taken_for_patients(world: World) -> None:
    assert "They are not of patients" in world.page().sections[""]


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
    "two\nlines.png",
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
    for name in (
        HOSTILE[0],
        HOSTILE[1],
        HOSTILE[2],
        "two\\nlines.png",
        "{{ 7 * 7 }}.png",
        "\\u202egnp.exe.png",
    ):
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
        "And 36 more in data/prepared/busi/audit.json ."
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
