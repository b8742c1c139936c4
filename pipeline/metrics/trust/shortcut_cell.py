"""One cell's shortcut check: images taken from the prepared set, and what became of each as a table and a record."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from pipeline.data.prepared import Prepared, to_tensor
from pipeline.metrics.explained import Explained
from pipeline.metrics.faithfulness import Predict, see
from pipeline.metrics.localisation import has_finding
from pipeline.metrics.prediction import scoring
from pipeline.metrics.trust.shortcut import Sample, Tampered, focus, pointing_hits, search, tamper
from pipeline.metrics.trust.similarity import Explain, Maps
from pipeline.models.build import Classifier
from pipeline.records import Shortcut

# Images looked at, spread evenly. Windows slide over the searched, up to 49 passes each. The tested, four passes each,
# are many, to tell a rate of a tenth from none; explained ones are tested too, and explained once more.
SEARCHED, TESTED, EXPLAINED = 32, 128, 64

COLUMNS = ("row", "label", "predicted", "donor_class", "followed", "followed_control", "predicted_neutral")
HITS = ("pointing_hit", "pointing_hit_neutral")


def check_shortcut(
    classifier: Classifier, explain: Explain, prepared: Prepared, explained: Explained, seed: int, batch_size: int
) -> tuple[Shortcut | None, pd.DataFrame]:
    """The record, and a line for each image; no record and no line where masks are absent or leave nothing to test.

    Args:
        explained: with maps of the methods that `explain` gives, and of no other.
        batch_size: the most images that the model sees at a time.
    """
    tampered = tamper_with_images(classifier, prepared, explained.rows, seed, batch_size)
    if tampered is None:
        return None, pd.DataFrame(columns=[*COLUMNS, *hit_columns(explained.maps)])
    table = _predictions(tampered, prepared.index["label"].to_numpy()).assign(**_hits(tampered, explained, explain))
    return _record(tampered, table, explained), table


def hit_columns(methods: Iterable[str]) -> list[str]:
    """`<method>/pointing_hit` and the same for the neutral image: empty for an image without mask or map."""
    return [f"{method}/{hit}" for method in methods for hit in HITS]


def tamper_with_images(
    classifier: Classifier, prepared: Prepared, explained: Int64[np.ndarray, " k"], seed: int, batch_size: int
) -> Tampered | None:
    """Test images, explained ones among them, tampered with at the place that validation images gave away."""
    searched = _some(_masked(prepared, prepared.rows("validation")), SEARCHED)
    tested = _some(_masked(prepared, prepared.rows("test")), TESTED)
    tested = np.union1d(tested, _some(_masked(prepared, explained), EXPLAINED))
    if not (len(searched) and len(tested)):
        return None
    with scoring(classifier, "fp32") as predict:
        first, second = (
            _sample(predict, prepared, rows, classifier.mean.device, batch_size) for rows in (searched, tested)
        )
        places = search(predict, first, seed, batch_size)
        return tamper(predict, second, places, seed, batch_size) if places else None


def _masked(prepared: Prepared, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Without a mask nobody knows what is evidence; a blank one says that there is none."""
    return rows[prepared.index["has_mask"].to_numpy()[rows]]


def _some(rows: Int64[np.ndarray, " n"], count: int) -> Int64[np.ndarray, " m"]:
    """At most so many, spread evenly; rows stand by class, so every class has its share."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))]


def _sample(
    predict: Predict, prepared: Prepared, rows: Int64[np.ndarray, " n"], device: torch.device, batch_size: int
) -> Sample:
    images = to_tensor(prepared.pixels(rows)).to(device)
    assert prepared.masks is not None
    evidence = torch.from_numpy(prepared.masks[rows] > 0).to(device)
    return Sample(rows, images, evidence, see(predict, images, batch_size).probabilities)


def _predictions(tampered: Tampered, labels: Int64[np.ndarray, " images"]) -> pd.DataFrame:
    found = {
        "predicted": tampered.sample.predicted,
        "donor_class": tampered.donor_classes,
        "followed": tampered.followed,
        "followed_control": tampered.followed_control,
        "predicted_neutral": tampered.neutral.predicted,
    }
    rows = tampered.sample.rows
    return pd.DataFrame(
        {"row": rows, "label": labels[rows], **{name: each.cpu().numpy() for name, each in found.items()}}
    )


def _hits(tampered: Tampered, explained: Explained, explain: Explain) -> dict[str, pd.api.extensions.ExtensionArray]:
    """Of images that have a map and a mask with anything in it."""
    shown = _explained(tampered, explained) & has_finding(tampered.sample.evidence)
    if not shown.any():
        return {name: _column(shown, shown[shown]) for name in hit_columns(explained.maps)}
    before, after = tampered.sample.at(shown), tampered.neutral.at(shown)
    first = pointing_hits(_maps(explained, before), before.evidence)
    second = pointing_hits(explain(after.images, after.predicted), after.evidence)
    return {
        f"{method}/{name}": _column(shown, hits[method])
        for method in explained.maps
        for name, hits in zip(HITS, (first, second), strict=True)
    }


def _explained(tampered: Tampered, explained: Explained) -> Bool[Tensor, " n"]:
    return torch.from_numpy(np.isin(tampered.sample.rows, explained.rows)).to(tampered.followed.device)


def _maps(explained: Explained, sample: Sample) -> Maps:
    """The maps of the sample's images, all of which are explained."""
    positions = pd.Index(explained.rows).get_indexer(sample.rows)
    return {name: torch.from_numpy(maps[positions]).to(sample.images.device) for name, maps in explained.maps.items()}


def _column(marked: Bool[Tensor, " n"], values: Bool[Tensor, " k"]) -> pd.api.extensions.ExtensionArray:
    """Values at the marked images, nothing at the others."""
    column = pd.array([pd.NA] * len(marked), dtype="boolean")
    column[marked.cpu().numpy()] = values.cpu().numpy()
    return column


def _record(tampered: Tampered, table: pd.DataFrame, explained: Explained) -> Shortcut:
    sample, (region, control) = tampered.sample.at(_explained(tampered, explained)), tampered.places
    height, width = sample.images.shape[2:]
    top, left, bottom, right = region
    shares = focus(_maps(explained, sample), region, height, width) if len(sample.rows) else {}
    localised = table[hit_columns(explained.maps)].dropna()
    hits = {hit: {m: float(localised[f"{m}/{hit}"].mean()) for m in explained.maps if len(localised)} for hit in HITS}
    return Shortcut(
        region_px=region,
        control_px=control,
        image_size_px=height,
        area=(bottom - top) * (right - left) / (height * width),
        images=len(table),
        followed=float(table["followed"].mean()),
        followed_control=float(table["followed_control"].mean()),
        accuracy=float((table["predicted"] == table["label"]).mean()),
        accuracy_neutral=float((table["predicted_neutral"] == table["label"]).mean()),
        focus={method: float(values.mean()) for method, values in shares.items()},
        localised=len(localised),
        pointing_game=hits["pointing_hit"],
        pointing_game_neutral=hits["pointing_hit_neutral"],
    )
