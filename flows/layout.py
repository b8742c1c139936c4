"""Where each stage's files lie; the same paths stand in dvc.yaml."""

from pathlib import Path

DATA = Path("data")
CORPUS = DATA / "corpus"  # prepared images for pre-training
RESUME = Path(".resume")  # state of unfinished fine-tuning, outside DVC so that a kill does not lose it


def raw_dir(dataset: str) -> Path:
    return DATA / "raw" / dataset


def prepared_dir(dataset: str) -> Path:
    return DATA / "prepared" / dataset


def model_dir(dataset: str, model: str) -> Path:
    return DATA / "models" / dataset / model


def pretrained_weights(model: str) -> Path:
    return DATA / "pretrained" / f"{model}.safetensors"


def heatmap_dir(dataset: str, model: str) -> Path:
    return DATA / "heatmaps" / dataset / model


def score_dir(dataset: str, model: str) -> Path:
    return DATA / "scores" / dataset / model


def resume_dir(dataset: str, model: str) -> Path:
    return RESUME / f"{dataset}-{model}"


REPORT = DATA / "report"
