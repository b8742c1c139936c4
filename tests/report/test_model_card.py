"""The model card: the headings and numbers that a reader of such cards looks for."""

from dataclasses import replace

import pytest
import yaml

from pipeline import data
from pipeline.models.provenance import NOT_STATED
from pipeline.records import Audit, Summary
from pipeline.report.cells import Cell, load_cell
from pipeline.report.model_card import LONGEST, card_file, model_card
from tests.report.made_study import Study

HEADINGS = (  # of Hugging Face's template
    "Model Details", "Uses", "Bias, Risks, and Limitations", "How to Get Started with the Model", "Training Details",
    "Evaluation", "Model Examination", "Citation",
)  # fmt: skip


@pytest.fixture(scope="module")
def cell(study: Study) -> Cell:
    return load_cell(study.data, "busi", "dino")


@pytest.fixture(scope="module")
def audit(study: Study) -> Audit:
    return Audit.read(study.data / "prepared" / "busi")


def test_the_card_has_hugging_faces_headings_in_their_order(cell: Cell, audit: Audit) -> None:
    card = model_card(cell, audit, synthetic=True, resamples=500)
    found = [line.removeprefix("## ") for line in card.splitlines() if line.startswith("## ")]
    assert found == list(HEADINGS)


def test_the_card_holds_the_scores_with_their_intervals(study: Study, cell: Cell, audit: Audit) -> None:
    card = model_card(cell, audit, synthetic=True, resamples=500)
    scores = Summary.read(study.data / "scores" / "busi" / "dino").metrics["gradcam"]
    ends = f"{scores['insertion_auc_low']:.3f} to {scores['insertion_auc_high']:.3f}"
    assert f"| Grad-CAM | {scores['insertion_auc']:.3f} ({ends}) |" in card
    assert cell.receipt.checkpoint_sha256 in card
    assert "patient ids" in card


def test_only_a_model_of_phantoms_is_called_one(cell: Cell, audit: Audit) -> None:
    assert "not for patients" in model_card(cell, audit, synthetic=True, resamples=500)
    assert "hantom" not in model_card(cell, audit, synthetic=False, resamples=500)


def test_a_shortcut_stands_among_the_limits(cell: Cell, audit: Audit) -> None:
    card = model_card(cell, audit, synthetic=False, resamples=500, shortcut="It reads the corner.")
    limits = card[card.index("## Bias") : card.index("## How to")]
    assert "It reads the corner." in limits


def started_from(cell: Cell, **weights: str) -> Cell:
    """The cell as if its fine-tuning had started from weights of which the receipt says this."""
    return replace(cell, receipt=cell.receipt.model_copy(update=weights))


def test_the_card_tells_the_file_it_started_from_and_its_licence(cell: Cell, audit: Audit) -> None:
    page, record = "https://huggingface.co/timm/vit_base_patch16_224.dino", "timm's record of vit_base_patch16_224.dino"
    origin = {"weights_origin": page, "weights_licence": "apache-2.0", "weights_licence_source": record}
    dino = started_from(cell, weights="dino", weights_sha256="e" * 64, **origin)
    card = model_card(dino, audit, synthetic=False, resamples=500)
    assert f"- **Started from:** dino, {page}; SHA-256 `{'e' * 64}`\n" in card
    assert f"- **Licence of those weights:** apache-2.0 ({record})\n" in card


def test_a_licence_that_nothing_states_is_said_to_be_unknown(cell: Cell, audit: Audit) -> None:
    lone = started_from(cell, weights="vit.pth", weights_sha256="e" * 64, weights_licence=NOT_STATED)
    card = model_card(lone, audit, synthetic=False, resamples=500)
    assert f"- **Started from:** vit.pth; SHA-256 `{'e' * 64}`\n" in card
    assert f"- **Licence of those weights:** {NOT_STATED}\n" in card


def test_from_scratch_the_card_speaks_of_no_licence(cell: Cell, audit: Audit) -> None:
    card = model_card(cell, audit, synthetic=False, resamples=500)
    assert "- **Started from:** random weights\n" in card
    assert "Licence" not in card


def with_methods(cell: Cell, names: list[str]) -> Cell:
    """The cell as if it had been explained by methods of these names, beside its baselines."""
    scores = cell.summary.metrics
    metrics = {name: scores["gradcam"] for name in names} | {name: scores[name] for name in cell.baselines}
    explanation = cell.explanation.model_copy(update={"methods": tuple(names)})
    return replace(cell, explanation=explanation, summary=cell.summary.model_copy(update={"metrics": metrics}))


def test_baselines_give_way_to_the_length_that_a_description_may_have(cell: Cell, audit: Audit) -> None:
    short = with_methods(cell, list("abcdefgh"))
    card = model_card(short, audit, synthetic=True, resamples=500)
    assert "| edges |" in card
    longer = [letter + "x" * ((LONGEST - len(card)) // 8 + 4) for letter in "abcdefgh"]
    card = model_card(with_methods(cell, longer), audit, synthetic=True, resamples=500)
    assert len(card) <= LONGEST
    assert "| edges |" not in card


def test_the_header_is_the_yaml_that_the_hub_reads(cell: Cell) -> None:
    text = card_file(cell, data.get("busi"), "# card\n")
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "timm"
    (result,) = header["model-index"][0]["results"]
    assert {metric["type"]: metric["value"] for metric in result["metrics"]}["macro_auroc"] == 0.9
    assert text.endswith("# card\n")
