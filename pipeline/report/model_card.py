"""The card of a fine-tuned model, in Markdown with the headings of Hugging Face's model cards.

It stands in the report's folder, on the registered version as its description, and in the model's own files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from pipeline.data.fetching.source import PHANTOM
from pipeline.files import write_text
from pipeline.params import Params
from pipeline.records import ORACLE, SWAPPED, Audit
from pipeline.report.cells import Cell
from pipeline.report.rendering import environment
from pipeline.report.shortcuts import ShortcutAnswer
from pipeline.report.tables import ARROWS, accuracy_row
from pipeline.spec import DatasetSpec

LONGEST = 4800  # characters; MLflow's stores hold 5,000 of a description, and a link is added to it
COLUMNS = (
    "insertion_auc",
    "deletion_auc",
    "insertion_gain",
    "deletion_gain",
    "pointing_game",
    "pointing_chance",
    "mass_ratio",
)


def model_card(cell: Cell, audit: Audit, synthetic: bool, resamples: int, shortcut: str = "") -> str:
    """The card without its header; baselines give way where it would be longer than a description may be.

    Args:
        shortcut: what is known of a shortcut that the model takes; empty if nothing.
    """
    methods = cell.explanation.methods
    baselines = [name for name in cell.baselines if not name.startswith((SWAPPED, "random_")) and name != ORACLE]
    for shown in ((*methods, *baselines), methods):
        text = _rendered(cell, audit, synthetic, resamples, shortcut, shown)
        if len(text) <= LONGEST:
            return text
    return f"{text[: LONGEST - 1]}…"


def write_cards(
    cells: Sequence[Cell],
    shortcuts: Sequence[ShortcutAnswer],
    audits: Mapping[str, Audit],
    params: Params,
    report_dir: Path,
) -> None:
    """cards/<dataset>-<model>.md of every cell, with the shortcut that it takes among its limits."""
    for cell, answer in zip(cells, shortcuts, strict=True):
        audit, synthetic = audits[cell.dataset], params.datasets[cell.dataset].source == PHANTOM
        card = model_card(cell, audit, synthetic, params.findings.resamples, answer.sentence)
        write_text(report_dir / "cards" / f"{cell.dataset}-{cell.model}.md", card_file(cell, audit.spec, card))


def card_file(cell: Cell, spec: DatasetSpec, card: str) -> str:
    """The card under the header that Hugging Face's hub reads."""
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=spec.name,
            dataset_name=spec.title,
            dataset_split="test",
            metric_type=name,
            metric_value=round(value, 4),
        )
        for name, value in cell.classification.test.items()
    ]
    header = ModelCardData(
        model_name=f"{spec.name}-{cell.model}",
        library_name="timm",
        tags=["image-classification", "explainability", "medical-imaging"],
        datasets=[spec.name],
        eval_results=results,
    )
    return f"---\n{header.to_yaml()}\n---\n\n{card}"


def _rendered(
    cell: Cell,
    audit: Audit,
    synthetic: bool,
    resamples: int,
    shortcut: str,
    shown: tuple[str, ...],
) -> str:
    metrics = {name: cell.summary.metrics[name] for name in shown if name in cell.summary.metrics}
    columns = [name for name in COLUMNS if any(name in found for found in metrics.values())]
    return (
        environment(markup=False)
        .get_template("model_card.md.jinja")
        .render(
            receipt=cell.receipt,
            spec=audit.spec,
            audit=audit,
            synthetic=synthetic,
            shortcut=shortcut,
            counts={split: sum(classes.values()) for split, classes in audit.images_per_split.items()},
            learning_rate=float(cell.history["learning_rate"].max()),
            accuracy=accuracy_row(cell, cell.receipt.seed, resamples),
            recall=cell.classification.recall,
            summary=cell.summary,
            maps=metrics,
            columns={name: f"{name.replace('_', ' ')} {ARROWS.get(name, '')}".rstrip() for name in columns},
        )
    )
