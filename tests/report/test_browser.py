"""The page in a real browser: its filters, its address, its keyboard, its widths, its print, and what axe finds."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e .[dev])")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on this machine"),
]

CARDS = 2 * 2 * 9  # datasets, models, images of each
PAGE = 24  # cards shown at a time
SHOWN = ".card:visible"


@dataclass
class Visit:
    """A page that is open, with what it asked for and complained of."""

    page: "playwright.Page"
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def choose(self, **filters: str) -> None:
        for name, value in filters.items():
            self.page.select_option(f"select[name={name}]", value)

    def values(self, name: str) -> set[str]:
        """What the visible cards say under `data-<name>`."""
        return set(self.page.eval_on_selector_all(SHOWN, f"cards => cards.map(card => card.dataset['{name}'])"))

    def count(self) -> str:
        return self.page.inner_text("#count")


@pytest.fixture(scope="module")
def address(report: Path) -> str:
    return (report / "index.html").as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


def open_page(chromium: "playwright.Browser", address: str, width: int = 1300, **options: bool) -> Visit:
    page = chromium.new_page(viewport={"width": width, "height": 900}, **options)
    visit = Visit(page, address)
    page.on("request", lambda request: visit.requests.append(request.url))
    page.on("console", lambda message: visit.complaints.append(message.text))
    page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    page.goto(address)
    return visit


@pytest.fixture
def visit(chromium: "playwright.Browser", address: str) -> Iterator[Visit]:
    visit = open_page(chromium, address)
    yield visit
    visit.page.close()
    assert visit.complaints == []


def test_nothing_but_the_page_itself_is_asked_for(visit: Visit) -> None:
    visit.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    visit.page.click("#more")
    assert {url for url in visit.requests if not url.startswith("data:")} == {visit.address}


def test_some_cards_are_shown_at_first_and_more_when_asked(visit: Visit) -> None:
    assert visit.page.locator(SHOWN).count() == PAGE
    assert visit.count() == f"{PAGE} of {CARDS} shown"
    visit.page.click(f"#more:text-is('Show {CARDS - PAGE} more')")
    assert visit.page.locator(SHOWN).count() == CARDS
    assert visit.count() == f"{CARDS} of {CARDS} shown"
    assert visit.page.locator("#more").is_hidden()
    assert visit.page.evaluate("[...document.querySelectorAll('.card')].indexOf(document.activeElement)") == PAGE


@pytest.mark.parametrize(
    ("name", "value"), [("dataset", "busi"), ("class", "benign"), ("model", "dino"), ("answer", "wrong")]
)
def test_a_filter_leaves_the_cards_that_match(visit: Visit, name: str, value: str) -> None:
    matching = visit.page.locator(f'.card[data-{name}="{value}"]').count()
    visit.choose(**{name: value})
    assert visit.values(name) == {value}
    assert visit.count() == f"{min(PAGE, matching)} of {matching} shown, {CARDS} in all"


def test_the_filter_of_methods_hides_the_other_methods_tiles_and_curves(visit: Visit) -> None:
    visit.choose(method="gradcam")
    assert visit.page.locator(SHOWN).count() == PAGE
    methods = visit.page.eval_on_selector_all("#cards [data-method]:visible", "all => all.map(e => e.dataset.method)")
    assert set(methods) == {"gradcam"}
    visit.choose(method="")
    assert visit.page.locator('#cards figure[data-method="gradient_rollout"]:visible').count() >= PAGE


def test_filters_combine_and_clear(visit: Visit) -> None:
    visit.choose(dataset="pbc", model="vit", answer="wrong")
    assert (visit.values("dataset"), visit.values("model"), visit.values("answer")) == ({"pbc"}, {"vit"}, {"wrong"})
    visit.page.click("button[type=reset]")
    playwright.expect(visit.page.locator("#count")).to_have_text(f"{PAGE} of {CARDS} shown")


def test_a_class_of_another_dataset_is_not_offered(visit: Visit) -> None:
    visit.choose(**{"class": "benign"})
    visit.choose(dataset="pbc")
    assert visit.page.input_value("select[name=class]") == ""
    assert visit.page.locator("optgroup[label=busi]").is_disabled()


def test_no_match_is_said(visit: Visit) -> None:
    visit.choose(dataset="pbc", **{"class": "platelet"})
    visit.page.evaluate("document.querySelectorAll('.card').forEach(card => { card.dataset.model = 'none'; })")
    visit.choose(model="vit")
    assert visit.count() == f"No image matches, {CARDS} in all"
    assert visit.page.locator(SHOWN).count() == 0


def test_the_address_keeps_the_filter(visit: Visit, chromium: "playwright.Browser") -> None:
    visit.choose(model="dino", answer="wrong", method="gradcam")
    address = visit.page.url
    assert address.endswith("#browser?model=dino&method=gradcam&answer=wrong")
    again = open_page(chromium, address)
    assert again.count() == visit.count()
    assert again.page.input_value("select[name=model]") == "dino"
    assert again.values("answer") == {"wrong"}
    again.page.close()


def test_a_wrong_address_shows_everything(chromium: "playwright.Browser", address: str) -> None:
    visit = open_page(chromium, f"{address}#browser?model=unknown&answer=%22&other=1")
    assert visit.count() == f"{PAGE} of {CARDS} shown"
    assert visit.complaints == []
    visit.page.close()


def test_the_errors_of_a_model_are_one_click_away(visit: Visit) -> None:
    visit.page.click("#busi .jump a:text-is('dino')")
    playwright.expect(visit.page.locator("select[name=model]")).to_have_value("dino")
    assert (visit.values("dataset"), visit.values("model"), visit.values("answer")) == ({"busi"}, {"dino"}, {"wrong"})
    playwright.expect(visit.page.locator("#filters")).to_be_in_viewport()


def test_a_misclassified_image_has_maps_for_both_classes(visit: Visit) -> None:
    card = visit.page.locator('.card[data-answer="wrong"]').first
    assert card.locator(".tiles").count() == 2
    asked = card.locator(".right-side .for").all_text_contents()
    assert [text.rsplit(", ", 1)[1] for text in asked] == ["predicted", "true"]
    assert visit.page.locator('.card[data-answer="right"]').first.locator(".tiles").count() == 1


def test_without_script_every_card_is_shown_and_no_filter(chromium: "playwright.Browser", address: str) -> None:
    visit = open_page(chromium, address, java_script_enabled=False)
    assert visit.page.locator(SHOWN).count() == CARDS
    assert visit.page.locator("#filters").is_hidden()
    visit.page.close()


@pytest.mark.parametrize("width", [375, 820])
def test_the_page_never_scrolls_sideways(chromium: "playwright.Browser", address: str, width: int) -> None:
    visit = open_page(chromium, address, width)
    open_details(visit)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.page.close()


def test_the_keyboard_reaches_filters_details_and_tables(visit: Visit) -> None:
    visit.page.focus("body")
    reached = set()
    for _ in range(400):
        visit.page.keyboard.press("Tab")
        reached.add(
            visit.page.evaluate(
                "(e => e.name || e.id || e.getAttribute('aria-label') || e.textContent.trim())(document.activeElement)"
            )
        )
        if "more" in reached:
            break
    assert {"dataset", "class", "model", "method", "answer", "more"} <= reached
    assert set(visit.page.locator("#findings summary, #busi summary").all_inner_texts()) <= reached
    assert {"Heatmap scores, pbc", "Gallery, busi", "Skip to the report"} <= reached


def test_a_summary_opens_by_the_keyboard(visit: Visit) -> None:
    visit.page.focus("summary >> nth=0")
    visit.page.keyboard.press("Enter")
    assert visit.page.locator("details >> nth=0").get_attribute("open") is not None


def test_paper_shows_every_table_and_only_the_first_cards(visit: Visit) -> None:
    visit.page.emulate_media(media="print")
    hidden = "tables => tables.filter(table => !table.checkVisibility({ contentVisibilityAuto: true })).length"
    assert visit.page.eval_on_selector_all("table", hidden) == 0
    assert visit.page.locator(SHOWN).count() == 8
    assert visit.page.locator("#filters, .contents").locator("visible=true").count() == 0


@pytest.mark.parametrize("width", [1300, 375])
def test_axe_finds_nothing_serious(chromium: "playwright.Browser", address: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    visit = open_page(chromium, address, width)
    open_details(visit)
    visit.page.add_style_tag(content="* { content-visibility: visible !important; }")  # else axe sees nothing below
    found = axe.Axe().run(visit.page).response["violations"]
    grave = {each["id"]: each["nodes"][0]["html"] for each in found if each["impact"] in ("serious", "critical")}
    assert grave == {}
    visit.page.close()


def open_details(visit: Visit) -> None:
    visit.page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true; })")
