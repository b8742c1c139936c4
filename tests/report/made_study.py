"""A small study's files, made up: every record and array that the report reads, with random maps on the right grids."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data import DATASETS
from pipeline.data.prepared import COLUMNS
from pipeline.files import sha256_of
from pipeline.models.provenance import Provenance
from pipeline.params import Params, load_params
from pipeline.records import (
    Audit,
    Classification,
    Dropped,
    Explanation,
    HeatmapLineage,
    ProtocolScores,
    Receipt,
    Summary,
    Trust,
)
from pipeline.report.page import write_report
from tests.prepared import write_audit

CLASSES = {"pbc": ("basophil", "eosinophil", "platelet"), "busi": ("normal", "benign", "malignant")}
TRAITS = {"pbc": ("acquisition_batch", "first", "second"), "busi": ("burnt_in_marks", "plain", "marked")}
METHODS, BASELINES = ("gradcam", "gradient_rollout"), ("random", "centre", "edge")
RULES = ("predicted", "true")
SIDE, GRID, STEPS = 32, 4, 4
RULES_OF_FINDINGS = load_params().findings


@dataclass(frozen=True)
class Study:
    """Where a made-up study lies and what it holds."""

    data: Path
    datasets: tuple[str, ...]
    models: tuple[str, ...]

    def params(self, source: str = "phantom", resamples: int = 500, **report: int) -> Params:
        """The embedded study's, with these datasets from `source`, these models, and a short page."""
        params = load_params()
        datasets = {name: params.datasets[name].model_copy(update={"source": source}) for name in self.datasets}
        study = params.study.model_copy(update={"datasets": self.datasets, "models": self.models})
        page = params.report.model_copy(update={"gallery_images": 3, "browser_images": 9} | report)
        rules = params.findings.model_copy(update={"resamples": resamples})
        changes = {"study": study, "datasets": datasets, "report": page, "findings": rules}
        return params.model_copy(update=changes)

    def write_report(self, report: Path, source: str = "phantom", **changes: int) -> Path:
        """`changes` are those that `params` takes."""
        return write_report(self.data, report, self.params(source, **changes))


def make_study(data: Path, datasets: Sequence[str], models: Sequence[str], images: int) -> Study:
    for number, dataset in enumerate(datasets):
        rng = np.random.default_rng(number)
        make_prepared(data / "prepared" / dataset, dataset, images, rng)
        for model in models:
            make_cell(data, dataset, model, rng)
    return Study(data, tuple(datasets), tuple(models))


def make_prepared(folder: Path, dataset: str, images: int, rng: np.random.Generator) -> None:
    """Discs on noise; half of the images are the test split."""
    folder.mkdir(parents=True)
    classes = CLASSES[dataset]
    index = pd.DataFrame({"row": range(images), "label": [row % len(classes) for row in range(images)]})
    index["class"] = [classes[label] for label in index["label"]]
    index["file"] = [f"{name}/{name} ({row}).png" for row, name in zip(index["row"], index["class"], strict=True)]
    index["split"] = [("test", "test", "train", "validation")[row % 4] for row in index["row"] // len(classes)]
    index["group"], index["sha256"] = index["row"], "0" * 64
    index["has_mask"] = (dataset == "busi") & (index["class"] != "normal")
    index[list(COLUMNS)].to_csv(folder / "index.csv", index=False)
    trait, common, rare = TRAITS[dataset]
    levels = np.where(index["row"] % 4 == 0, rare, common)
    index[["row"]].assign(**{trait: levels}).to_csv(folder / "traits.csv", index=False)
    discs = np.stack([disc(rng.integers(10, 22, 2)) for _ in range(images)])
    noise = rng.integers(40, 120, (images, SIDE, SIDE, 3))
    np.save(folder / "images.npy", (noise + 100 * discs[..., None]).astype(np.uint8))
    if dataset == "busi":
        np.save(folder / "masks.npy", (discs & index["has_mask"].to_numpy()[:, None, None]).astype(np.uint8))
    write_audit(made_audit(dataset, index), folder)


def disc(centre: np.ndarray, radius: int = 6) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def made_audit(dataset: str, index: pd.DataFrame) -> Audit:
    splits = {split: group["class"].value_counts().to_dict() for split, group in index.groupby("split")}
    return Audit(
        spec=replace(DATASETS[dataset], classes=CLASSES[dataset]),
        image_size_px=SIDE,
        data_sha256="d" * 64,
        images=len(index),
        images_per_class=index["class"].value_counts().to_dict(),
        images_per_split=splits,
        masks=int(index["has_mask"].sum()),
        exact_duplicates=1,
        duplicate_groups=(("a.png", "b.png"),),
        label_conflicts=(),
        dropped=(Dropped(file="c.png", reason="cannot be read: truncated"),),
        flagged=(),
    )


def make_cell(data: Path, dataset: str, model: str, rng: np.random.Generator) -> None:
    index = pd.read_csv(data / "prepared" / dataset / "index.csv")
    predictions = made_predictions(index[index["split"] == "test"], CLASSES[dataset], rng)
    make_model(data / "models" / dataset / model, dataset, model, predictions)
    maps = data / "heatmaps" / dataset / model
    make_heatmaps(maps, dataset, model, predictions, rng)
    make_scores(
        data / "scores" / dataset / model, dataset, model, predictions, sha256_of(maps / "attributions.npz"), rng
    )


def made_predictions(test: pd.DataFrame, classes: Sequence[str], rng: np.random.Generator) -> pd.DataFrame:
    """Every fourth image is wrong."""
    table = test[["row", "file", "label"]].reset_index(drop=True)
    logits = rng.normal(size=(len(table), len(classes)))
    logits[np.arange(len(table)), (table["label"] + (table.index % 4 == 3)) % len(classes)] += 6
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    table["predicted"] = probabilities.argmax(axis=1)
    table["correct"] = table["label"] == table["predicted"]
    return table.join(pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes]))


def make_model(folder: Path, dataset: str, model: str, predictions: pd.DataFrame) -> None:
    folder.mkdir(parents=True)
    classes = CLASSES[dataset]
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (predictions["label"], predictions["predicted"]), 1)
    accuracy = float(predictions["correct"].mean())
    Receipt(
        dataset=dataset, model=model, arch="vit_tiny_patch16_224", arch_options={"depth": 4}, weights="none",
        **asdict(Provenance()),
        classes=classes, image_size_px=SIDE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), parameters=123_456, seed=0,
        epochs_run=5, best_epoch=4, best_validation_macro_f1=0.8, augmentation={}, precision="fp32",
        checkpoint_sha256=(model * 64)[:64], data_sha256="d" * 64, packages={"torch": "2.13.0", "timm": "1.0.31"},
    ).write(folder)  # fmt: skip
    Classification(
        checkpoint_sha256=(model * 64)[:64],
        data_sha256="d" * 64,
        images=len(predictions),
        test={"accuracy": accuracy, "balanced_accuracy": accuracy - 0.01, "macro_f1": accuracy, "macro_auroc": 0.9},
        recall=dict.fromkeys(classes, accuracy),
        confusion=tuple(tuple(row) for row in counts.tolist()),
    ).write(folder)
    predictions.to_csv(folder / "predictions.csv", index=False)
    epochs = pd.DataFrame({"epoch": range(1, 6), "learning_rate": 1e-3})
    epochs["train_loss"] = [1.0, 0.7, 0.5, 0.4, 0.3]
    epochs["validation_loss"] = [1.1, 0.8, 0.7, 0.6, 0.65]
    epochs["validation_accuracy"] = epochs["validation_macro_f1"] = [0.4, 0.6, 0.7, 0.8, 0.78]
    epochs.to_csv(folder / "history.csv", index=False)


def make_heatmaps(folder: Path, dataset: str, model: str, predictions: pd.DataFrame, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    wrong = predictions[~predictions["correct"]]
    arrays = {
        "rows_predicted": predictions["row"].to_numpy(np.int64),
        "targets_predicted": predictions["predicted"].to_numpy(np.int64),
        "rows_true": wrong["row"].to_numpy(np.int64),
        "targets_true": wrong["label"].to_numpy(np.int64),
        "probabilities": predictions.filter(like="p_").to_numpy(np.float32),
    }
    for name in (*METHODS, *BASELINES):
        for rule, count in (("predicted", len(predictions)), ("true", len(wrong))):
            arrays[f"{name}/{rule}"] = rng.random((count, GRID, GRID), np.float32) ** (3 if name == "gradcam" else 1)
    origin = HeatmapLineage(dataset=dataset, model=model, checkpoint_sha256=(model * 64)[:64], data_sha256="d" * 64)
    np.savez(folder / "attributions.npz", **arrays, lineage=np.array(origin.text()))
    Explanation(
        dataset=dataset, model=model, checkpoint_sha256=(model * 64)[:64], data_sha256="d" * 64,
        attributions_sha256=sha256_of(folder / "attributions.npz"), methods=METHODS, baselines=BASELINES,
        grids=dict.fromkeys((*METHODS, *BASELINES), (GRID, GRID)), cam_layer="blocks.3.norm1",
        settings={"rollout_mode": "corrected", "discard_ratio": 0.9}, images=len(predictions),
        misclassified=len(wrong), seed=0, packages={"torch": "2.13.0", "numpy": "2.4.6"},
    ).write(folder)  # fmt: skip


def made_scores(predictions: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for image in predictions.itertuples():
        for rule in ("predicted",) if image.correct else ("predicted", "true"):
            about = {"row": image.row, "file": image.file, "label": image.label, "predicted": image.predicted}
            about |= {"correct": image.correct, "target_rule": rule, "grid": f"{GRID}x{GRID}", "steps": STEPS}
            about["target"] = image.predicted if rule == "predicted" else image.label
            for method in (*METHODS, *BASELINES):
                for curve in ("insertion", "deletion"):
                    rows.append({**about, "method": method, "curve": curve, "auc": rng.uniform(0.3, 0.7)})
    table = pd.DataFrame(rows)
    table["substrate"] = table["curve"].map({"insertion": "blur", "deletion": "zero"})
    return table.assign(probability_full=0.9, probability_substrate=0.3)


def make_scores(
    folder: Path, dataset: str, model: str, predictions: pd.DataFrame, attributions: str, rng: np.random.Generator
) -> None:
    folder.mkdir(parents=True)
    scores = made_scores(predictions, rng)
    scores.to_csv(folder / "scores.csv", index=False)
    made_localisation(dataset, scores, rng).to_csv(folder / "localisation.csv", index=False)
    fractions = np.linspace(0, 1, STEPS + 1)
    checks = {"row": [0, 1], "method": "gradcam", "check": "gini", "value": [0.3, 0.5]}
    pd.DataFrame(checks).to_csv(folder / "trust.csv", index=False)
    hits = [f"{method}/{hit}" for method in METHODS for hit in ("pointing_hit", "pointing_hit_neutral")]
    images = ["row", "label", "predicted", "donor_class", "followed", "followed_control", "predicted_neutral", *hits]
    pd.DataFrame(columns=images).to_csv(folder / "shortcut.csv", index=False)
    scores.iloc[:0].assign(variant="").to_csv(folder / "variants.csv", index=False)
    curves = [
        pd.DataFrame({"curve": curve, "method": method, "fraction": fractions, "probability": end})
        for curve, end in (("insertion", 0.3 + 0.6 * fractions), ("deletion", 0.9 - 0.6 * fractions))
        for method in (*METHODS, *BASELINES)
    ]
    pd.concat(curves).to_csv(folder / "curves_mean.csv", index=False)
    wrong = ~predictions["correct"]
    np.savez(folder / "curves.npz", **made_curves(len(predictions), int(wrong.sum())))
    metrics = {method: made_metrics(scores, method, dataset == "busi") for method in (*METHODS, *BASELINES)}
    protocol = ProtocolScores(
        steps=STEPS, adaptive=False, insertion_substrate="blur", deletion_substrate="zero", unit_px=1,
        order="most_relevant_first", temperature=1.0, precision="fp32", disagreement=0.0, passes=100,
        probability_full=0.9, probability_substrate={"blur": 0.4, "zero": 0.3},
        normalised_images={"insertion": 10, "deletion": 9}, metrics=metrics,
    )  # fmt: skip
    Summary(
        **protocol.model_dump(),
        dataset=dataset, model=model, checkpoint_sha256=(model * 64)[:64], data_sha256="d" * 64,
        attributions_sha256=attributions, tie_rule="reading order", images=len(predictions),
        misclassified=int(wrong.sum()), localised=0, pointing_tolerance_px=0,
        calibration={"temperature": 1.2, "ece": 0.1, "ece_calibrated": 0.05},
        metrics_misclassified={f"{name}/{rule}": {"insertion_auc": 0.5} for name in METHODS for rule in RULES},
        variants={"patches": protocol.model_copy(update={"unit_px": 8, "adaptive": True})}, seed=0, packages={},
    ).write(folder)  # fmt: skip
    Trust(
        dataset=dataset, model=model, checkpoint_sha256=(model * 64)[:64], attributions_sha256=attributions, images=8,
        chance={method: {"border_mass": 0.75} for method in METHODS},
        metrics={method: {"gini": 0.4, "border_mass": 0.6, "class_similarity": 0.1} for method in METHODS},
        undefined={method: {"class_similarity": 1} for method in METHODS}, seed=0,
    ).write(folder)  # fmt: skip


def made_curves(images: int, wrong: int) -> dict[str, np.ndarray]:
    """Rising for insertion, falling for deletion."""
    rng = np.random.default_rng(0)
    return {
        f"{method}/{rule}/{curve}": np.sort(rng.random((count, STEPS + 1), np.float32))[:, ::way]
        for method in (*METHODS, *BASELINES)
        for rule, count in (("predicted", images), ("true", wrong))
        for curve, way in (("insertion", 1), ("deletion", -1))
    }


def made_localisation(dataset: str, scores: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    table = scores[scores["curve"] == "insertion"][["row", "label", "target_rule", "method"]].copy()
    table["pointing_hit"] = rng.random(len(table)) < 0.5
    for name in ("mass_ratio", "mass_over_chance", "rank_accuracy", "average_precision", "top_k_iou"):
        table[name] = rng.uniform(0.1, 0.5, len(table))
    table["mask_fraction"], table["size"] = 0.11, np.where(table["row"] % 2, "large", "small")
    has_mask = (table["label"] > 0) & (dataset == "busi")
    return table[has_mask].drop(columns="label")


def made_metrics(scores: pd.DataFrame, method: str, masks: bool) -> dict[str, float]:
    chosen = scores[(scores["method"] == method) & (scores["target_rule"] == "predicted")]
    found = {}
    for curve, group in chosen.groupby("curve"):
        mean = float(group["auc"].mean())
        found |= {f"{curve}_auc": mean, f"{curve}_auc_low": mean - 0.03, f"{curve}_auc_high": mean + 0.03}
        if method != "random":
            found |= {f"{curve}_gain": mean - 0.5, f"{curve}_gain_low": mean - 0.53, f"{curve}_gain_high": mean - 0.47}
    return found | ({"pointing_game": 0.5, "pointing_chance": 0.11, "mass_ratio": 0.3} if masks else {})
