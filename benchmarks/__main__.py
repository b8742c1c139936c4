"""The figures beside our peers, in one run: `make bench`, or `python -m benchmarks --quick` to see that it works.

Prints a table and writes benchmarks/RESULTS.md and benchmarks/results.json. Needs an otherwise idle machine and the
extra `bench`. Rivals take turns; figures are ratios of medians. The long curves are timed once each.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.curves import against_quantus, against_rise, against_torchcam, matmul_rate
from benchmarks.explaining import explaining
from benchmarks.timing import Figure, machine

HERE = Path(__file__).parent
PACKAGES = ("torch", "timm", "numpy", "grad-cam", "quantus", "torchcam")
VIT, SWIN, SMALL = "vit_base_patch16_224", "swin_tiny_patch4_window7_224", "deit_tiny_patch16_224"


def figures(quick: bool, precision: str) -> Iterator[Figure]:
    yield explaining((SMALL,) if quick else (SMALL, VIT), batch=8, rounds=1 if quick else 3)
    for arch in (SMALL,) if quick else (SWIN, VIT):
        yield from against_rise(arch, images=2, steps=14 if quick else 224, precision=precision)
    rounds = 1 if quick else 3
    yield against_quantus(SMALL, 2 if quick else 8, steps=96, rounds=rounds, precision=precision)  # of 150,528 values
    yield against_torchcam(SMALL if quick else SWIN, 2, 7 if quick else 56, rounds, precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="bf16", help="of the scoring engine: fp32, bf16 or auto")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = []
    for figure in figures(args.quick, args.precision):
        found.append(figure)
        print(line(figure), flush=True)
    if not args.quick:
        write(found)


def line(figure: Figure) -> str:
    met = "yes" if figure.ratio >= figure.at_least else "no"
    cells = (figure.name, figure.peer, figure.ours, figure.theirs, f"{figure.ratio:.2f}", f"{figure.at_least}", met)
    return f"| {' | '.join(cells)} |"


def write(found: list[Figure]) -> None:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    head = "| what | peer | ours | theirs | ratio | at least | met |\n|---|---|---|---|---|---|---|"
    table = "\n".join([head, *map(line, found)])
    about = f"Measured by `make bench` on: {machine()}. {packages}."
    (HERE / "RESULTS.md").write_text(f"# Speed beside peers\n\n{about}\n\n{table}\n\n{bound()}\n")
    kept = [{key: asdict(figure)[key] for key in ("name", "peer", "ratio", "at_least")} for figure in found]
    (HERE / "results.json").write_text(json.dumps(kept, indent=2) + "\n")


def bound() -> str:
    """What no engine that runs every step can exceed."""
    fp32, bf16 = (matmul_rate(precision) / 1e9 for precision in ("fp32", "bf16"))
    return (
        f"This machine's matrix products run at {fp32:.0f} GFLOP/s in fp32 and {bf16:.0f} in bf16. The peers run every "
        f"step in fp32, so whoever runs every step in bf16 gains {bf16 / fp32:.1f} times at most; adaptive ones gain "
        "more."
    )


if __name__ == "__main__":
    main()
