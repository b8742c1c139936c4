"""How the cost of explaining and scoring grows: with the images, from 10^3 to 10^6, and with the workers, from 1 to 8.

Run by hand, on an otherwise idle machine:
    python -m benchmarks.scaling           # writes benchmarks/SCALING.md and benchmarks/scaling.png
    python -m benchmarks.scaling --quick   # small sizes, nothing written
A tiny ViT on images of 32 px, so that what is measured is the pipeline and not the model. Images: explain_cell and
score_cell in a process of their own for each size, as peak memory never falls; larger sizes are extrapolated. Workers:
as many processes with one thread each, up to the cores; beyond them the measured times of the shards are dealt out to
more workers, each shard to the first that is free.
"""

import argparse
import heapq
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.timing import machine
from pipeline.explain.attribution import explain_cell
from pipeline.metrics.scoring import score_cell
from pipeline.params import ModelParams, Params, load_params
from pipeline.shards import IN_MEMORY, Scratch, Shard
from pipeline.training import fit_cell
from tests.models.tiny import ARCHITECTURES
from tests.prepared import write_prepared

HERE = Path(__file__).parent
DATASET, MODEL, CLASSES = "colours", "vit", 3
MEASURED, EXTRAPOLATED = (1_000, 3_000, 10_000, 30_000, 100_000), (1_000_000,)
WORKERS = (1, 2, 4, 8)
FEW_STEPS, STUDY_STEPS = 4, 28


@dataclass(frozen=True)
class Cost:
    """Of explaining and scoring so many images in one process."""

    images: int
    seconds: float
    memory_gib: float


@dataclass(frozen=True)
class Speed:
    """Of scoring the same images with so many workers."""

    workers: int
    seconds: float
    simulated: bool


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, nothing written")
    parser.add_argument("--one", type=int, help="this many images, in this process")
    args = parser.parse_args()
    if args.one:
        return print(json.dumps(asdict(measured(args.one))))
    costs = [in_own_process(images) for images in ((60, 120, 240) if args.quick else MEASURED)]
    beyond = [extrapolated(costs, images) for images in EXTRAPOLATED]
    speeds = speeds_of(240 if args.quick else 1_500)
    print(text := table(costs, beyond, speeds))
    if not args.quick:
        (HERE / "SCALING.md").write_text(text, encoding="utf-8")
        draw(costs, beyond, speeds, HERE / "scaling.png")


def in_own_process(images: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(images)]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Cost(**json.loads(printed.splitlines()[-1]))


def measured(images: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), images, FEW_STEPS)
        begin = time.perf_counter()
        world.explain()
        world.score()
        seconds = time.perf_counter() - begin
    return Cost(images, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def extrapolated(costs: Sequence[Cost], images: int) -> Cost:
    """On the straight line through the two largest sizes measured."""
    (x0, *y0), (x1, *y1) = ((cost.images, cost.seconds, cost.memory_gib) for cost in costs[-2:])
    seconds, memory = (b + (b - a) / (x1 - x0) * (images - x1) for a, b in zip(y0, y1, strict=True))
    return Cost(images, seconds, memory)


def speeds_of(images: int) -> list[Speed]:
    """Measured up to the cores, dealt out beyond."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), images, STUDY_STEPS)
        world.explain()
        cores = joblib.cpu_count()
        runs = {workers: timed_score(world, workers) for workers in WORKERS if workers <= cores}
    alone, shards = runs[1]
    rest = alone - sum(shards)
    measured = [Speed(workers, seconds, simulated=False) for workers, (seconds, _) in runs.items()]
    return measured + [Speed(n, rest + makespan(shards, n), simulated=True) for n in WORKERS if n not in runs]


def timed_score(world: "World", workers: int) -> tuple[float, list[float]]:
    """Seconds of the whole, and of each shard; the workers are up before."""
    took: list[float] = []

    def spread(shards: Sequence[Shard]) -> Iterator[int]:
        futures = {pool.submit(seconds_of, shard): number for number, shard in enumerate(shards)}
        for future in as_completed(futures):
            took.append(future.result())
            yield futures[future]

    spawning = get_context("spawn")
    all_up = spawning.Barrier(workers + 1)  # when each has started, and has imported what this module imports
    with ProcessPoolExecutor(workers, spawning, initializer=all_up.wait) as pool:
        for _ in range(workers):
            pool.submit(time.sleep, 0)  # a process is started for each call that finds none at leisure
        all_up.wait()
        begin = time.perf_counter()
        world.score(Scratch(world.folder / f"shards_{workers}", spread))
        return time.perf_counter() - begin, took


def seconds_of(shard: Shard) -> float:
    begin = time.perf_counter()
    shard()
    return time.perf_counter() - begin


def makespan(shards: Sequence[float], workers: int) -> float:
    """Seconds until all are done where each goes to the first worker that is free."""
    free_at = [0.0] * workers
    for seconds in shards:
        heapq.heappush(free_at, heapq.heappop(free_at) + seconds)
    return max(free_at)


def table(costs: Sequence[Cost], beyond: Sequence[Cost], speeds: Sequence[Speed]) -> str:
    rows = [f"| {c.images:,} | {c.seconds:,.1f} s | {c.memory_gib:,.1f} GiB | measured |" for c in costs]
    rows += [f"| {c.images:,} | {c.seconds:,.0f} s | {c.memory_gib:,.0f} GiB | extrapolated |" for c in beyond]
    alone = speeds[0].seconds
    speed_rows = [
        f"| {s.workers} | {s.seconds:.1f} s | {alone / s.seconds:.2f} | {'simulated' if s.simulated else 'measured'} |"
        for s in speeds
    ]
    return f"""# How cost grows

Measured by `python -m benchmarks.scaling` on: {machine()}.

A tiny ViT on images of 32 px, all test images explained by Grad-CAM and Gradient Attention Rollout and scored beside
the baselines. Larger sizes lie on the straight line through the two largest that were measured.

![Seconds and memory against images, speed against workers](scaling.png)

| images | explain and score, {FEW_STEPS} steps | peak memory | |
|---|---|---|---|
{chr(10).join(rows)}

Scoring the same images in {STUDY_STEPS} steps by workers of one thread each. Beyond the cores of this machine the
measured times of the shards are dealt out, each to the first worker that is free; the part that is not shared out
stays as measured.

| workers | score | times as fast | |
|---|---|---|---|
{chr(10).join(speed_rows)}
"""


def draw(costs: Sequence[Cost], beyond: Sequence[Cost], speeds: Sequence[Speed], path: Path) -> None:
    """Hollow marks were not measured."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for axes, value, name in ((left, "seconds", "seconds"), (middle, "memory_gib", "peak memory, GiB")):
        mark(axes, [(c.images, getattr(c, value)) for c in costs], [(c.images, getattr(c, value)) for c in beyond])
        axes.set(xscale="log", yscale="log", xlabel="images", ylabel=name)
    alone = speeds[0].seconds
    known, dealt = ([(s.workers, alone / s.seconds) for s in speeds if s.simulated is kind] for kind in (False, True))
    right.plot(WORKERS, WORKERS, ":", color="0.6", label="as many times as workers")
    mark(right, known, dealt)
    right.set(xscale="log", yscale="log", xlabel="workers", ylabel="times as fast", xticks=WORKERS, yticks=WORKERS)
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:.0f}")
        axis.set_minor_formatter("")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=110)


def mark(axes: Axes, known: Sequence[tuple[float, float]], beyond: Sequence[tuple[float, float]]) -> None:
    axes.plot(*zip(*known, strict=True), "o-", color="C0", label="measured", zorder=3)  # the line beyond begins below
    axes.plot(*zip(known[-1], *beyond, strict=True), "o--", color="C0", mfc="white", label="extrapolated, simulated")


class World:
    """A prepared set of random colours and a fine-tuned model, to be explained and scored on the test split."""

    def __init__(self, folder: Path, images: int, steps: int) -> None:
        self.folder, self.params = folder, small(load_params(), steps)
        write_prepared(folder / "prepared", train=(8, 4, 2), test=images // CLASSES)
        arch, options = ARCHITECTURES[MODEL]
        model = ModelParams(arch=arch, arch_options=options, weights="none", learning_rate=3e-3)
        state = folder / "state"
        fit_cell(self.prepared, self.trained, state, MODEL, model, self.params.finetune, self.params.study, ignore)

    prepared = property(lambda self: self.folder / "prepared")
    trained = property(lambda self: self.folder / "model")
    explained = property(lambda self: self.folder / "heatmaps")
    scored = property(lambda self: self.folder / "scores")

    def explain(self) -> None:
        folders = self.prepared, self.trained, self.explained
        explain_cell(*folders, DATASET, MODEL, self.params.explain, self.params.study, ignore)

    def score(self, scratch: Scratch = IN_MEMORY) -> None:
        folders = self.prepared, self.trained, self.explained, self.scored
        score_cell(*folders, DATASET, MODEL, self.params.score, self.params.study, ignore, scratch)


def small(params: Params, steps: int) -> Params:
    """The study's own parameters, with so many steps and every image explained."""
    finetune = params.finetune.model_copy(update={"epochs": 2, "batch_size": 7})
    explain = params.explain.model_copy(update={"max_images": None})
    score = params.score.model_copy(update={"steps": steps, "variants": {}, "bootstrap_resamples": 100})
    return params.model_copy(update={"finetune": finetune, "explain": explain, "score": score})


def ignore(*progress: object) -> None:
    pass


if __name__ == "__main__":
    main()
