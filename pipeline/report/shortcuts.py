"""Does a model answer by something beside the evidence? The shortcut check of each cell, judged and put in words.

A shortcut is found where, at the place that sways the model most, more answers follow the pixels of another image than
at the control, or where accuracy falls once the place shows nothing: by the rule's size, and with a p below its alpha.
None is found where both intervals end below that size. One place of one size is tried, outside the masks: a tint of
the whole image, or a sign inside the mask, is not looked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from pipeline.params import ShortcutRule
from pipeline.records import Shortcut
from pipeline.report.cells import Cell, title_of
from pipeline.report.findings import Finding
from pipeline.report.measures import Measure, Verdict, overall
from pipeline.seeds import cell_seed
from pipeline.statistics import holm, mean_interval, sign_flip_p, sign_interval

Found = Literal["found", "none found", "undecided", "not measured"]


@dataclass(frozen=True)
class ShortcutAnswer:
    """What the check of one cell says; a sentence where there is something to say."""

    dataset: str
    model: str
    found: Found
    sentence: str
    measures: tuple[Measure, ...]


def shortcut_answers(cells: Sequence[Cell], rule: ShortcutRule, seed: int, resamples: int) -> list[ShortcutAnswer]:
    return [shortcut_answer(cell, rule, seed, resamples) for cell in cells]


def shortcut_answer(cell: Cell, rule: ShortcutRule, seed: int, resamples: int) -> ShortcutAnswer:
    record = cell.trust.shortcut
    if record is None:
        return ShortcutAnswer(cell.dataset, cell.model, "not measured", "", ())
    key = cell_seed(seed, "shortcut", cell.dataset, cell.model)
    measures = _measures(cell, rule, key, resamples)
    verdict = overall([each.verdict for each in measures])
    found: Found = {"not supported": "found", "supported": "none found"}.get(verdict, "undecided")  # type: ignore[assignment]
    sentence = _sentence(cell, record, key, resamples) if found == "found" else ""
    return ShortcutAnswer(cell.dataset, cell.model, found, sentence, tuple(measures))


def shortcut_finding(answers: Sequence[ShortcutAnswer], rule: ShortcutRule) -> Finding:
    """S1, answered like the study's claims: refused by one model that takes a shortcut."""
    measures = tuple(measure for answer in answers for measure in answer.measures)
    verdict = overall([each.verdict for each in measures])
    caught = [f"{answer.model} on {answer.dataset}" for answer in answers if answer.found == "found"]
    would_change = {
        "supported": "A place beside the evidence that sways a model's answers.",
        "not supported": f"Training images without what the place shows, for {', '.join(caught)}.",
        "undecided": f"At least {rule.min_images} test images whose masks leave a place free, or clearer effects.",
    }[verdict]
    return Finding(
        "S1",
        "No place beside the outlined evidence decides what a model answers.",
        "The place beside the masks that sways a model most is sought on validation images. On test images, answers "
        "that follow another class's pixels in that place, less those that follow them at a control, and the accuracy "
        f"that is lost once the place shows nothing, have intervals below {rule.followed:g} and "
        f"{rule.accuracy_drop:g}. A mean of at least that, with a p against 0 below {rule.alpha:g} (Holm, for the "
        f"model's two measures), is a shortcut; anything else, or fewer than {rule.min_images} images, is undecided. "
        "Tints of the whole image, and signs inside the masks, are not looked for.",
        verdict,
        would_change,
        measures,
    )


def shortcut_table(cells: Sequence[Cell], answers: Sequence[ShortcutAnswer]) -> pd.DataFrame:
    """One row for each cell with masks and method: the place, what it does to answers, and to the pointing game."""
    rows = [
        {"dataset": cell.dataset, "model": cell.model, "found": answer.found, "method": method}
        | {"place": place_of(record), "area": record.area, "images": record.images}
        | {"followed": record.followed, "followed_control": record.followed_control}
        | {"accuracy": record.accuracy, "accuracy_neutral": record.accuracy_neutral, "focus": record.focus.get(method)}
        | {"localised": record.localised, "pointing_game": record.pointing_game.get(method)}
        | {"pointing_game_neutral": record.pointing_game_neutral.get(method)}
        for cell, answer in zip(cells, answers, strict=True)
        if (record := cell.trust.shortcut) is not None
        for method in cell.explanation.methods
    ]
    columns = [
        "dataset", "model", "found", "method", "place", "area", "images", "followed", "followed_control", "accuracy",
        "accuracy_neutral", "focus", "localised", "pointing_game", "pointing_game_neutral",
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def place_of(record: Shortcut) -> str:
    """Where the region's centre lies in the image, in words."""
    top, left, bottom, right = record.region_px
    row, column = ((first + last) / 2 / record.image_size_px for first, last in ((top, bottom), (left, right)))
    down = ("top", "middle", "bottom")[min(int(3 * row), 2)]
    across = ("left", "centre", "right")[min(int(3 * column), 2)]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"


def _measures(cell: Cell, rule: ShortcutRule, seed: int, resamples: int) -> list[Measure]:
    table = cell.shortcut
    right, right_neutral = (table["label"] == table[name] for name in ("predicted", "predicted_neutral"))
    followed, at_control = (table[name].astype(float) for name in ("followed", "followed_control"))
    asked = (
        (f"answers that follow the place, less the control, {cell.model}", followed - at_control, rule.followed),
        (f"accuracy that the place gives, {cell.model}", right.astype(float) - right_neutral, rule.accuracy_drop),
    )
    p_values = np.array([sign_flip_p(values.to_numpy(float)[None], seed, resamples)[0] for _, values, _ in asked])
    return [
        _measure(Measured(cell.dataset, name, values.to_numpy(float), threshold, float(p), float(p_holm)), rule)
        for (name, values, threshold), p, p_holm in zip(asked, p_values, holm(p_values), strict=True)
    ]


@dataclass(frozen=True)
class Measured:
    """Differences, each -1, 0 or 1, with the size from which they make a shortcut, and their p against 0."""

    dataset: str
    name: str
    values: Float[np.ndarray, " n"]
    threshold: float
    p: float
    p_holm: float


def _measure(found: Measured, rule: ShortcutRule) -> Measure:
    """Supported is the absence of a shortcut, as the claim has it."""
    mean, low, high = sign_interval(found.values)
    verdict: Verdict = "undecided"
    if len(found.values) >= rule.min_images:
        if mean >= found.threshold and found.p_holm < rule.alpha:
            verdict = "not supported"
        elif high < found.threshold:
            verdict = "supported"
    change = {
        "supported": f"an interval that reaches {found.threshold:g}",
        "not supported": f"a mean below {found.threshold:g}, or a p of {rule.alpha:g}",
        "undecided": f"more images: at least {rule.min_images}, and an interval below {found.threshold:g}",
    }[verdict]
    return Measure(
        found.dataset, found.name, mean, low, high, found.threshold, len(found.values), found.p, found.p_holm, verdict,
        "", change, below=True,
    )  # fmt: skip


def _sentence(cell: Cell, record: Shortcut, seed: int, resamples: int) -> str:
    return (
        f"{cell.model} on {cell.dataset} answers by something beside the outlined evidence, at the "
        f"{place_of(record)} of the image ({record.area:.0%} of it). With the pixels of another class's image there, "
        f"{record.followed:.0%} of its answers follow them ({record.followed_control:.0%} at a control); without what "
        f"the place shows, its accuracy goes from {record.accuracy:.2f} to {record.accuracy_neutral:.2f}."
        f"{_pointing(cell, seed, resamples)}"
    )


def _pointing(cell: Cell, seed: int, resamples: int) -> str:
    """What the shortcut costs the pointing game, by method."""
    parts = []
    for method in cell.explanation.methods:
        hits = cell.shortcut[[f"{method}/pointing_hit", f"{method}/pointing_hit_neutral"]].dropna().astype(float)
        if len(hits) < 2:
            continue
        with_it, without = hits.mean()
        lost = (hits.iloc[:, 1] - hits.iloc[:, 0]).to_numpy(float)
        drop, low, high = mean_interval(lost, seed, resamples)
        parts.append(
            f"{title_of(method)} {with_it:.2f} with it and {without:.2f} without on {len(hits)} images, a drop of "
            f"{drop:.2f} (95 % interval {low:.2f} to {high:.2f})"
        )
    return f" Pointing game: {'; '.join(parts)}." if parts else ""
