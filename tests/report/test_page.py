"""The page: whole, self-contained, reproducible; and what it refuses."""

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import StudyError
from pipeline.files import sha256_of
from pipeline.records import Explanation, Summary, Trust
from pipeline.report.browser import LINE_HEIGHT, LINE_POINTS, LINE_WIDTH, MOST_BARS, bars_of, line_path
from pipeline.report.cells import load_cell, title_of, twin_of
from pipeline.report.curves import half_band, image_curves
from pipeline.report.overlays import take_turns
from tests.report.made_study import STEPS, Study

pytestmark = pytest.mark.slow

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What the tests ask of a page: its tags with their attributes, and whether every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text(report: Path) -> str:
    return (report / "index.html").read_text(encoding="utf-8")


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_the_page_needs_nothing_from_anywhere(text: str) -> None:
    assert not re.search(r"https?://|<link|<script[^>]|@import|url\(", text)
    assert all((image["src"] or "").startswith("data:image/") for image in Page(text).all("img"))


def test_every_image_says_what_it_shows(text: str) -> None:
    images = Page(text).all("img")
    assert images
    assert all(image.get("alt") for image in images)


def test_every_tag_is_closed_and_every_header_cell_has_a_scope(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert all(header.get("scope") for header in page.all("th"))


def test_every_anchor_leads_somewhere(text: str) -> None:
    page = Page(text)
    named = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    places = {(anchor["href"] or "").removeprefix("#").partition("?")[0] for anchor in page.all("a")}
    assert places <= named


def test_the_page_says_that_phantoms_are_not_patients(text: str) -> None:
    assert "They are not about patients" in text


def test_a_folder_as_source_is_named_without_its_path(own_study: Study, tmp_path: Path) -> None:
    page = own_study.write_report(tmp_path / "r", "/home/someone/archives/bloodcells.zip")
    text = page.read_text(encoding="utf-8")
    assert "bloodcells.zip" in text
    assert "/home/someone" not in text
    assert "not about patients" not in text


def test_no_path_of_this_machine_gets_into_the_report(study: Study, report: Path) -> None:
    assert not any(str(study.data.parent).encode() in content for content in files(report).values())


def test_writing_twice_gives_equal_bytes(study: Study, report: Path, tmp_path: Path) -> None:
    study.write_report(tmp_path / "again")
    assert files(tmp_path / "again") == files(report)


def test_tables_figures_metrics_and_findings_stand_beside_the_page(report: Path) -> None:
    figures = {
        f"figures/{dataset}_{kind}.{ending}"
        for dataset in ("pbc", "busi")
        for kind in ("curves", "gains", "training", "confusion")
        for ending in ("png", "svg")
    }
    beside = {"index.html", "report.html", "metrics.json", "findings.json", "tables/heatmaps.csv", "cards/busi-vit.md"}
    assert figures | beside <= files(report).keys()


def test_the_scores_of_the_summary_stand_on_the_page(study: Study, text: str) -> None:
    value = Summary.read(study.data / "scores" / "busi" / "dino").metrics["gradcam"]["insertion_auc"]
    assert f"{value:.3f}" in text


def test_localisation_stands_by_the_size_of_the_finding(study: Study, report: Path, text: str) -> None:
    table = pd.read_csv(report / "tables" / "localisation_by_size.csv")
    assert set(table["dataset"]) == {"busi"}
    assert set(table["size"]) == {"small", "large"}
    lines = pd.read_csv(study.data / "scores" / "busi" / "dino" / "localisation.csv")
    chosen = lines.query("target_rule == 'predicted' and method == 'gradcam' and size == 'large'")
    found = table.query("model == 'dino' and method == 'gradcam' and size == 'large'")
    assert found["images"].tolist() == [len(chosen)]
    assert found["mass_ratio"].tolist() == pytest.approx([chosen["mass_ratio"].mean()])
    assert "Localisation by the size of the" in text


def test_a_further_protocol_is_told_with_its_settings(report: Path, text: str) -> None:
    assert "patches" in text
    assert f"{STEPS} steps, adaptive, squares of 8 px" in text
    table = pd.read_csv(report / "tables" / "variants.csv")
    assert set(table["variant"]) == {"patches"}
    assert (table[["unit_px", "probability_zero"]] == [8, 0.3]).all(axis=None)


def test_a_cell_that_the_study_no_longer_names_is_not_read(own_study: Study, tmp_path: Path) -> None:
    (own_study.data / "scores" / "pbc" / "dino" / "summary.json").write_text("spoilt")
    study = Study(own_study.data, own_study.datasets, ("vit",))
    assert "gradcam" in study.write_report(tmp_path / "r").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("models/busi/dino/predictions.csv", "dvc repro finetune@busi-dino"),
        ("heatmaps/busi/dino/attributions.npz", "dvc repro explain@busi-dino"),
        ("scores/busi/dino/summary.json", "dvc repro score@busi-dino"),
        ("scores/busi/dino/curves.npz", "dvc repro score@busi-dino"),
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_it(
    own_study: Study, tmp_path: Path, file: str, command: str
) -> None:
    (own_study.data / file).unlink()
    with pytest.raises(StudyError, match=f"{file}: no such file; run `{command}`"):
        own_study.write_report(tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_files_of_different_checkpoints_are_refused(own_study: Study, tmp_path: Path) -> None:
    folder = own_study.data / "scores" / "pbc" / "vit"
    Summary.read(folder).model_copy(update={"checkpoint_sha256": "f" * 64}).write(folder)
    with pytest.raises(StudyError, match="pbc/vit: its files speak of different checkpoints"):
        own_study.write_report(tmp_path / "r")


def test_scores_on_other_images_than_the_prepared_ones_are_refused(own_study: Study, tmp_path: Path) -> None:
    about = own_study.data / "prepared" / "pbc" / "set.json"
    about.write_text(about.read_text().replace("d" * 64, "e" * 64))
    with pytest.raises(StudyError, match="pbc/vit: explained on other images"):
        own_study.write_report(tmp_path / "r")


def test_a_study_without_errors_is_reported(own_study: Study, tmp_path: Path) -> None:
    """Stands in for a perfect model: the misclassified part of everything is empty."""
    for cell in own_study.data.glob("heatmaps/*/*"):
        path = cell / "attributions.npz"
        with np.load(path) as held:
            arrays = {name: held[name][:0] if "true" in name else held[name] for name in held.files}
        np.savez(path, **arrays)
        replace_hash(own_study.data, cell)
    assert "No explained image was misclassified" in own_study.write_report(tmp_path / "r").read_text(encoding="utf-8")


def replace_hash(data: Path, heatmap_dir: Path) -> None:
    new = {"attributions_sha256": sha256_of(heatmap_dir / "attributions.npz"), "misclassified": 0}
    Explanation.read(heatmap_dir).model_copy(update=new).write(heatmap_dir)
    scores = data / "scores" / heatmap_dir.parent.name / heatmap_dir.name
    Summary.read(scores).model_copy(update=new | {"metrics_misclassified": {}}).write(scores)
    Trust.read(scores).model_copy(update={"attributions_sha256": new["attributions_sha256"]}).write(scores)


def test_a_methods_twin_of_has_its_grid(study: Study) -> None:
    explanation = load_cell(study.data, "pbc", "vit").explanation
    finer = explanation.model_copy(update={"grids": explanation.grids | {"gradient_rollout": (8, 8)}})
    assert twin_of("gradcam", finer) == "random"
    assert twin_of("gradient_rollout", finer) == "random_8x8"
    assert title_of("random_8x8") == "random map 8x8"


def test_an_empty_browser_leaves_no_trace(study: Study, tmp_path: Path) -> None:
    page = study.write_report(tmp_path / "r", browser_images=0)
    text = page.read_text(encoding="utf-8")
    assert 'id="browser"' not in text
    assert "#browser" not in {anchor["href"] for anchor in Page(text).all("a")}


def test_as_many_cards_are_drawn_as_were_asked_for(text: str) -> None:
    assert len([each for each in Page(text).all("article") if each.get("class") == "card"]) == 2 * 2 * 9


def test_curves_of_other_heatmaps_are_refused(own_study: Study, tmp_path: Path) -> None:
    np.savez(own_study.data / "scores" / "pbc" / "vit" / "curves.npz", other=np.zeros(3))
    with pytest.raises(StudyError, match="not the curves of this cell's heatmaps; run `dvc repro score@pbc-vit`"):
        own_study.write_report(tmp_path / "r")


def test_a_band_is_1_96_standard_errors_high(study: Study) -> None:
    lines = image_curves(study.data / "scores" / "pbc" / "vit", ["gradcam"])["gradcam", "insertion"]
    expected = 1.96 * pd.DataFrame(lines).sem().to_numpy()
    np.testing.assert_allclose(half_band(lines), expected, rtol=1e-5)
    assert np.isnan(half_band(lines[:1])).all()


def test_a_small_curve_runs_from_corner_to_corner_however_many_steps_it_has() -> None:
    points = line_path(np.linspace(0, 1, 225, dtype=np.float32))[1:].split(" ")
    assert len(points) == LINE_POINTS
    assert (points[0], points[-1]) == (f"0,{LINE_HEIGHT}", f"{LINE_WIDTH},0")
    assert line_path(np.array([0.25, 0.75], dtype=np.float32)) == f"M0,75 {LINE_WIDTH},25"


def test_of_many_classes_the_likeliest_and_the_true_one_have_bars() -> None:
    probabilities = np.arange(20, dtype=np.float32)
    bars = bars_of([str(number) for number in range(20)], probabilities / probabilities.sum(), label=2, predicted=19)
    assert [bar.name for bar in bars] == ["2", *(str(number) for number in range(21 - MOST_BARS, 20))]
    assert [bar.name for bar in bars if bar.is_true] == ["2"]
    assert [bar.name for bar in bars if bar.is_predicted] == ["19"]


def test_groups_take_turns_until_all_are_through() -> None:
    assert take_turns(["ad", "b", "ce"]) == ["a", "b", "c", "d", "e"]
