"""Test metrics of a checkpoint: predictions.csv and classification.json."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score, roc_auc_score
from torch import nn
from tqdm import tqdm

from pipeline.data.prepared import Prepared, load_prepared, to_tensor
from pipeline.device import resolve_device, set_threads
from pipeline.errors import StudyError
from pipeline.files import sha256_of, whole_file
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import StudyParams
from pipeline.records import CHECKPOINT, Classification


def classify_cell(prepared_dir: Path, model_dir: Path, batch_size: int, study: StudyParams) -> Classification:
    """Write predictions.csv and classification.json of the test split beside the checkpoint; the latter is returned.

    Raises:
        StudyError: checkpoint and prepared set do not belong together.
    """
    set_threads(study.threads)
    data, device = load_prepared(prepared_dir), resolve_device(study.device)
    classifier, description = load_checkpoint(model_dir / CHECKPOINT, str(device))
    if description.classes != data.about.classes:
        raise StudyError(f"{model_dir}: its classes are not those of {prepared_dir}; run `dvc repro`")
    rows = data.rows("test")
    labels = data.index["label"].to_numpy(np.int64)[rows]
    probabilities = _probabilities(classifier, data, rows, batch_size, device)
    table = prediction_table(data.index.iloc[rows], probabilities, description.classes)
    with whole_file(model_dir / "predictions.csv") as partial:
        table.to_csv(partial, index=False, lineterminator="\n", float_format="%.9g")
    result = Classification(
        checkpoint_sha256=sha256_of(model_dir / CHECKPOINT),
        data_sha256=data.about.data_sha256,
        images=len(rows),
        **classification(labels, probabilities, description.classes),
    )
    result.write(model_dir)
    return result


def _probabilities(
    classifier: nn.Module, data: Prepared, rows: Int64[np.ndarray, " n"], batch_size: int, device: torch.device
) -> Float[np.ndarray, "n classes"]:
    """In fp32, whatever the training's precision: explanations and scores start from the same predictions."""
    parts = np.split(rows, range(batch_size, len(rows), batch_size))
    with torch.inference_mode():
        logits = [classifier(to_tensor(data.pixels(part)).to(device)).cpu() for part in tqdm(parts, disable=None)]
    # in float64 each row sums to one closely enough for the area under the curve
    return torch.cat(logits).double().softmax(dim=1).numpy()


def prediction_table(
    index: pd.DataFrame, probabilities: Float[np.ndarray, "n classes"], classes: tuple[str, ...]
) -> pd.DataFrame:
    predicted = probabilities.argmax(axis=1)
    table = index[["row", "file", "label"]].reset_index(drop=True)
    table = table.assign(predicted=predicted, correct=predicted == table["label"])
    return table.assign(**{f"p_{name}": probabilities[:, position] for position, name in enumerate(classes)})


def classification(
    labels: Int64[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"], classes: tuple[str, ...]
) -> dict[str, Any]:
    """`test`, `recall` and `confusion` of the record; every class has images, the split sees to it."""
    known, predicted = list(range(len(classes))), probabilities.argmax(axis=1)
    recall = recall_score(labels, predicted, labels=known, average=None, zero_division=0)
    return {
        "test": {
            "accuracy": float(accuracy_score(labels, predicted)),
            "balanced_accuracy": float(recall.mean()),
            "macro_f1": float(f1_score(labels, predicted, labels=known, average="macro", zero_division=0)),
            "macro_auroc": macro_auroc(labels, probabilities),
        },
        "recall": dict(zip(classes, recall.tolist(), strict=True)),
        "confusion": confusion_matrix(labels, predicted, labels=known).tolist(),
    }


def macro_auroc(labels: Int64[np.ndarray, " n"], probabilities: Float[np.ndarray, "n classes"]) -> float:
    """Mean over classes of the area under the curve of that class against the rest; for two classes both agree."""
    areas = [roc_auc_score(labels == position, column) for position, column in enumerate(probabilities.T)]
    return float(np.mean(areas))
