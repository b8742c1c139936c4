"""Where each stage's files lie; the same paths stand in dvc.yaml.

A cell's `seed` is that of a repeat, one of `study.seeds`; None is the study's own cell.
"""

from pathlib import Path

DATA = Path("data")
REPORT = DATA / "report"
PROMOTIONS = DATA / "promotions.jsonl"  # in git: who promoted what, when and why
CORPUS = DATA / "corpus"  # prepared images for pre-training
RUNS = Path(".runs")  # which process does which stage, and flow runs that Prefect was not told the end of
RESUME = Path(".resume")  # state of unfinished work, outside DVC so that a kill does not lose it


def raw_dir(dataset: str) -> Path:
    return DATA / "raw" / dataset


def prepared_dir(dataset: str) -> Path:
    return DATA / "prepared" / dataset


def audit_dir(dataset: str) -> Path:
    return DATA / "audit" / dataset


def model_dir(dataset: str, model: str, seed: int | None = None) -> Path:
    return _of_seed(DATA / "models", seed) / dataset / model


def pretrained_weights(model: str) -> Path:
    return DATA / "pretrained" / f"{model}.safetensors"


def heatmap_dir(dataset: str, model: str, seed: int | None = None) -> Path:
    return _of_seed(DATA / "heatmaps", seed) / dataset / model


def score_dir(dataset: str, model: str, seed: int | None = None) -> Path:
    return _of_seed(DATA / "scores", seed) / dataset / model


def resume_dir(dataset: str, model: str, seed: int | None = None) -> Path:
    return _of_seed(RESUME, seed) / f"{dataset}-{model}"


def shards_dir(stage: str, dataset: str, model: str, seed: int | None = None) -> Path:
    return _of_seed(RESUME / stage, seed) / f"{dataset}-{model}"


def cell_name(dataset: str, model: str, seed: int | None = None) -> str:
    """The cell as its runs are called."""
    return f"{dataset}-{model}" if seed is None else f"{dataset}-{model} seed {seed}"


def _of_seed(folder: Path, seed: int | None) -> Path:
    return folder if seed is None else folder / f"seed_{seed}"
