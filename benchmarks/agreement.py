"""How near adaptive scoring comes to all 224 steps on the study's own models and maps, and what it costs.

Run by hand in a checkout whose study is up to date: python -m benchmarks.agreement
"""

from pathlib import Path

import torch

from pipeline.data.prepared import load_prepared, to_tensor
from pipeline.metrics import InsertionDeletion, insertion_deletion
from pipeline.metrics.explained import load_explained
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import load_params
from pipeline.records import ATTRIBUTIONS, CHECKPOINT, Explanation

DATA = Path("data")


def main() -> None:
    params = load_params()
    torch.set_num_threads(params.study.threads)
    print("| cell | method | mean difference | worst | share of passes | differences within the error told |")
    print("|---|---|---|---|---|---|")
    found = []
    for dataset in params.study.datasets:
        for model in params.study.models:
            for method, full, bent in compare_cell(dataset, model):
                found.append((differences(full, bent), told(bent), full.passes, bent.passes))
                print(line(f"{dataset}-{model}", method, *found[-1]), flush=True)
    away, errors = (torch.cat([each[part] for each in found]) for part in (0, 1))
    print(line("all", "", away, errors, *(sum(each[part] for each in found) for part in (2, 3))))


def compare_cell(dataset: str, model: str) -> list[tuple[str, InsertionDeletion, InsertionDeletion]]:
    """Every method of a cell for the classes predicted: its name, all steps, adaptive steps."""
    heatmaps = DATA / "heatmaps" / dataset / model
    classifier, _ = load_checkpoint(DATA / "models" / dataset / model / CHECKPOINT)
    part = load_explained(heatmaps / ATTRIBUTIONS)[0]
    images = to_tensor(load_prepared(DATA / "prepared" / dataset).images[part.rows])
    targets = torch.from_numpy(part.targets)
    results = []
    for method in Explanation.read(heatmaps).methods:
        maps = torch.from_numpy(part.maps[method])
        both = (insertion_deletion(classifier, images, maps, targets, steps=steps) for steps in (224, "adaptive"))
        results.append((method, *both))
    return results


def differences(full: InsertionDeletion, bent: InsertionDeletion) -> torch.Tensor:
    return torch.cat([full.insertion_auc - bent.insertion_auc, full.deletion_auc - bent.deletion_auc]).abs()


def told(bent: InsertionDeletion) -> torch.Tensor:
    return torch.cat([bent.insertion.errors, bent.deletion.errors])


def line(cell: str, method: str, away: torch.Tensor, errors: torch.Tensor, full: int, bent: int) -> str:
    within = (away <= errors).double().mean()
    return f"| {cell} | {method} | {away.mean():.4f} | {away.max():.4f} | 1/{full / bent:.1f} | {within:.1%} |"


if __name__ == "__main__":
    main()
