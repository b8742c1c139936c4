"""What a version must show to be promoted, and how those that do are ranked: section `promotion`.

Nothing compared across models is raw. A bound that is the same for all models compares them, and so does a rank;
insertion and deletion AUCs, which hang on how sure a model is of a blurred image, may therefore only be compared with
those of a baseline on the same model and images.
"""

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from pipeline.params.evidence import MethodName
from pipeline.params.section import Count, Section

TEST = "test"  # stands where a method does, in metrics of the answers to test images
ACCURACY = "test/accuracy"
ANSWER_MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")
RAW_MEASURES = ("insertion_auc", "deletion_auc")
PLACE_MEASURES = ("pointing_game", "mass_ratio")
COMPARABLE_MEASURES = ("insertion_gain", "deletion_gain", *PLACE_MEASURES)
METHOD_MEASURES = (*RAW_MEASURES, *COMPARABLE_MEASURES, "gini")

MAPS = ("random", "centre", "edge")  # baselines that are scored like a method
CHANCE, MAJORITY = "chance", "majority"
ALL, ANSWERED, CLASS = "all", ("correct", "misclassified"), "class"  # slices; a class is a level of the column `class`


def split_metric(metric: str) -> tuple[str, str]:
    """`test` or the method, and the measure."""
    source, _, measure = metric.partition("/")
    return source, measure


def _known(metric: str) -> str:
    source, measure = split_metric(metric)
    methods = get_args(MethodName)
    if source not in (TEST, *methods):
        raise ValueError(f"unknown method {source!r}; choose from {', '.join((TEST, *methods))}")
    measures = ANSWER_MEASURES if source == TEST else METHOD_MEASURES
    if measure not in measures:
        raise ValueError(
            f"unknown measure {measure!r}; choose from {', '.join(f'{source}/{name}' for name in measures)}"
        )
    return metric


def _comparable(metric: str) -> str:
    source, measure = split_metric(metric)
    if source != TEST and measure not in COMPARABLE_MEASURES:
        allowed = ", ".join(f"{source}/{name}" for name in COMPARABLE_MEASURES)
        raise ValueError(f"{metric} cannot be compared across models; choose from {allowed}")
    return metric


Metric = Annotated[str, AfterValidator(_known)]
Bound = Annotated[float, Field(ge=-1, le=1)]  # no metric lies outside


class Quantity(Section):
    """A metric on a slice of the test images, or its lead over a baseline there."""

    metric: Metric
    slice: Annotated[str, Field(pattern=rf"^({ALL}|{'|'.join(ANSWERED)}|\w+=.+)$")] = ALL
    better_than: Literal["random", "centre", "edge", "chance", "majority"] | None = None

    @property
    def source(self) -> str:
        return split_metric(self.metric)[0]

    @property
    def measure(self) -> str:
        return split_metric(self.metric)[1]

    @property
    def column(self) -> str | None:
        """That the slice takes a level of; None for the slices that have a name of their own."""
        column, found, _ = self.slice.partition("=")
        return column if found else None

    @property
    def level(self) -> str:
        return self.slice.partition("=")[2]


class Condition(Quantity):
    """A bound of a quantity: of the value, or, for `better_than`, 0 for the whole 95 % interval of the lead."""

    at_least: Bound | None = None
    at_most: Bound | None = None
    datasets: tuple[str, ...] | None = None  # where it is asked for; None: everywhere

    @model_validator(mode="after")
    def _makes_sense(self) -> "Condition":
        given = [name for name in ("at_least", "at_most", "better_than") if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(f"needs exactly one of at_least, at_most and better_than; it has {found}")
        if self.better_than:
            _refuse_baseline(self)
        elif self.measure in RAW_MEASURES:
            raise ValueError(f"{self.metric} is raw, the same bound cannot suit two models; use better_than, or a gain")
        if self.source == TEST:
            _refuse_slice(self)
        return self


class PromotionParams(Section):
    min_images: Count  # a condition measured on fewer decides nothing, so it fails
    resamples: Annotated[int, Field(ge=100)]
    conditions: tuple[Condition, ...] = Field(min_length=1)
    ranking: tuple[Annotated[Metric, AfterValidator(_comparable)], ...] = Field(min_length=1)

    def of_dataset(self, dataset: str) -> tuple[Condition, ...]:
        """The conditions asked for there."""
        return tuple(each for each in self.conditions if each.datasets is None or dataset in each.datasets)

    def refuse_unknown(self, datasets: Collection[str], methods: Collection[str]) -> None:
        """Raises ValueError, naming the key, where a condition is on a dataset or a method that the study lacks."""
        for number, condition in enumerate(self.conditions):
            key = f"promotion.conditions.{number}"
            _refuse_others(f"{key}.datasets", condition.datasets or (), datasets)
            _refuse_others(f"{key}.metric", (condition.source,), (TEST, *methods))
        for number, metric in enumerate(self.ranking):
            _refuse_others(f"promotion.ranking.{number}", split_metric(metric)[:1], (TEST, *methods))


def _baselines(condition: Condition) -> tuple[str, ...]:
    if condition.source == TEST:
        return (MAJORITY,)
    if condition.measure == "gini":
        return ()
    return (*MAPS, CHANCE) if condition.measure in PLACE_MEASURES else MAPS


def _refuse_baseline(condition: Condition) -> None:
    if condition.better_than not in (known := _baselines(condition)):
        choices = f"choose from {', '.join(known)}" if known else "use at_least or at_most"
        raise ValueError(f"better_than {condition.better_than} makes no sense for {condition.metric}; {choices}")


def _refuse_slice(condition: Condition) -> None:
    """Slices of answers on which the metric is no longer a question."""
    if condition.slice in ANSWERED:
        raise ValueError(f"slice {condition.slice} decides {condition.metric} by itself; it is for heatmaps")
    if condition.column == CLASS and (condition.metric != ACCURACY or condition.better_than):
        raise ValueError(f"a slice of one class has only a recall; use {ACCURACY} with at_least or at_most")
    if condition.column == "size":
        raise ValueError("slice size is known of explained images only; it is for heatmaps")


def _refuse_others(key: str, names: Collection[str], known: Collection[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{key}: unknown {', '.join(unknown)} in this study; choose from {', '.join(known)}")
