"""What the parts of an audit are made of: tables read and refused, words, traits, masks, and the stage."""

import logging
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flows.audit import audit
from flows.layout import audit_dir, prepared_dir, raw_dir
from flows.monitor import monitor
from pipeline.errors import StudyError
from pipeline.report.audit_page.masks import ENDS, coverages
from pipeline.report.audit_page.traits import DETECTORS, trait_tables
from pipeline.report.audit_page.words import in_bytes, printable, share
from tests.report.audit_page.world import World, split_anew

ROOT = Path(__file__).parents[3]


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


def test_the_stage_names_the_page_and_each_line_to_heed(
    own_world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split_anew(own_world, {"near a.png": "train", "near b.png": "test"})
    monkeypatch.chdir(own_world.folder)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(monitor, "_on", None)
    for made, place in (
        ("raw", raw_dir("busi")),
        ("raw.json", Path("data/raw/busi.json")),
        ("prepared", prepared_dir("busi")),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        Path(made).rename(place)
    caplog.set_level(logging.INFO, logger="flows")
    audit("busi")
    told = [
        record.getMessage() for record in caplog.records if record.name == "flows" and "busi" in record.getMessage()
    ]
    assert told[0].startswith("busi: fault: test images with a near-copy in train: 1: top/benign/near b.png")
    assert "busi: look: unreadable images: 1 of 17: top/benign/zero.png" in told
    assert told[-1] == "busi: the audit is data/audit/busi/audit.html"
    assert (own_world.folder / "data/audit/busi/audit.html").is_file()
    assert not any(": fine:" in line or ": note:" in line or "\n" in line for line in told)


def test_the_stage_reads_and_writes_where_the_flow_does() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["audit"]["do"]
    item = "${item}"
    assert stage["cmd"] == f"python -m flows.audit --dataset {item}"
    assert stage["outs"] == [str(audit_dir(item))]
    assert {str(raw_dir(item)), f"{raw_dir(item)}.json", str(prepared_dir(item))} <= set(stage["deps"])
    assert all((ROOT / path).exists() for path in stage["deps"] if not path.startswith("data/"))
