"""The card of a fine-tuned model, in Markdown with the headings of Hugging Face's model cards.

It stands in the report's folder, on the registered version as its description, and in the model's own files.
"""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.data.spec import DatasetSpec
from pipeline.records import ORACLE, SWAPPED, Audit
from pipeline.report.cells import Cell, title_of
from pipeline.report.tables import ARROWS, accuracy_row

LONGEST = 4800  # characters; MLflow's stores hold 5,000 of a description, and a link is added to it
MISSING = "–"
COLUMNS = ("insertion_auc", "deletion_auc", "insertion_gain", "deletion_gain", "pointing_game", "mass_ratio")
RESAMPLES = 2000


def model_card(cell: Cell, spec: DatasetSpec, audit: Audit, synthetic: bool, shortcut: str = "") -> str:
    """The card without its header; baselines give way where it would be longer than a description may be.

    Args:
        shortcut: what is known of a shortcut that the model takes; empty if nothing.
    """
    methods = cell.explanation.methods
    baselines = [name for name in cell.baselines if not name.startswith((SWAPPED, "random_")) and name != ORACLE]
    for shown in ((*methods, *baselines), methods):
        text = _rendered(cell, spec, audit, synthetic, shortcut, shown)
        if len(text) <= LONGEST:
            break
    return text


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
    cell: Cell, spec: DatasetSpec, audit: Audit, synthetic: bool, shortcut: str, shown: tuple[str, ...]
) -> str:
    metrics = {name: cell.summary.metrics[name] for name in shown if name in cell.summary.metrics}
    columns = [name for name in COLUMNS if any(name in found for found in metrics.values())]
    return (
        _environment()
        .get_template("model_card.md.jinja")
        .render(
            receipt=cell.receipt,
            spec=spec,
            audit=audit,
            synthetic=synthetic,
            shortcut=shortcut,
            counts={split: sum(classes.values()) for split, classes in audit.images_per_split.items()},
            learning_rate=float(cell.history["learning_rate"].max()),
            accuracy=accuracy_row(cell, cell.receipt.seed, RESAMPLES),
            recall=cell.classification.recall,
            summary=cell.summary,
            maps=metrics,
            columns={name: f"{name.replace('_', ' ')} {ARROWS[name]}" for name in columns},
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": _number, "interval": _interval, "title_of": title_of}
    return environment


def _interval(found: Mapping[str, float | None], name: str) -> str:
    """The value of a metric with the ends of its interval, where it has them."""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    ends = "" if low is None or high is None else f" ({_number(low)} to {_number(high)})"
    return f"{_number(found.get(name))}{ends}"


def _number(value: float | None, digits: int = 3) -> str:
    return MISSING if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before a zero
