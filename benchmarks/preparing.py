"""What preparing a set of PBC's size costs: time by phase and memory of all processes, as the images grow in number.

Run by hand, on an otherwise idle machine with 10 GB of free disk:
    python -m benchmarks.preparing --processes 2 > benchmarks/PREPARING.md
    python -m benchmarks.preparing --images 400    # a quick look
Images are JPEG files of 360 x 363 px in PBC's proportions: phantom cells drawn at a third of that, enlarged, with grain
until they have as many corners as the real ones. One in a hundred each is copied, saved anew, and cut elsewhere.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial, wraps
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import psutil
from PIL import Image
from tqdm import tqdm

from pipeline.data import spec_of
from pipeline.data.phantom.cells import draw_cell
from pipeline.data.preparing import likeness, prepare
from pipeline.data.preparing.file_tables import EQUAL, LINKS
from pipeline.data.workers import mapper
from pipeline.params import load_params
from pipeline.seeds import cell_seed
from tests.data.sets import ignore

CLASS_SIZES = {
    "basophil": 1218,
    "eosinophil": 3117,
    "erythroblast": 1551,
    "ig": 2895,
    "lymphocyte": 1214,
    "monocyte": 1420,
    "neutrophil": 3329,
    "platelet": 2348,
}
TOP = "PBC_dataset_normal_DIB"
WIDTH_PX, HEIGHT_PX, SHIFT_PX = 360, 363, (60, 24)
DRAWN_PX = 120
GRAIN = 2.3  # grey levels; gives the 115 corners that a real image has on average
PLANTED = {25: EQUAL, 50: "perceptual_hash", 75: "overlap"}  # last two digits of a copy -> what should link it
PHASES: Mapping[str, tuple[object, str]] = {
    "read": (prepare, "_read_all"),
    "duplicates": (likeness, "close_pairs"),
    "overlaps": (likeness, "find_overlaps"),
    "write": (prepare, "_keep_rows"),
}
SAMPLE_S = 0.25
HEAD = """# What preparing a set costs

Measured by `python -m benchmarks.preparing --images {images} --processes {processes}` on: {machine}; {versions}.

`prepare_dataset` with the settings of params/paper.yaml (224 px), in a process of its own for each size, on made-up
images of {width} x {height} px in PBC's proportions. "Read" is decoding, hashing, corners and resizing, in {processes}
processes; the rest runs in one. The files had just been written and were still in the system's memory. Memory is summed
over all processes at the worst moment, sampled every {sample} s: first what no file stands behind (resident less shared
pages), then the proportional set size (PSS), which counts pages of the mapped arrays too; the system takes those back
when it needs them. One image in a hundred each was copied, saved anew, and cut elsewhere: "found" is how many of these
were linked to their image, "surplus" how many other pairs were linked.

| images | read | duplicates | overlaps | write | the rest | in all | images/s | memory | PSS | found | surplus |
|---|---|---|---|---|---|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Peak:
    """Bytes at the worst moment."""

    own: int = 0
    pss: int = 0

    def or_more(self, other: "Peak") -> "Peak":
        return Peak(max(self.own, other.own), max(self.pss, other.pss))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=sum(CLASS_SIZES.values()), help="of the largest set")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--one", type=Path, help="prepare what is in this folder, in this process")
    args = parser.parse_args()
    if args.one:
        answer_of(args.one).write_text(json.dumps(prepared(args.one, args.processes)))
        return
    print(page_head(args.images, args.processes), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        everything = places(args.images)
        write_images(Path(scratch) / "all", everything, args.processes)
        for share in (8, 4, 2, 1):
            print(row(Path(scratch), places(args.images // share), args.processes), flush=True)


def page_head(images: int, processes: int) -> str:
    from benchmarks.timing import machine  # imports torch, which the processes that are measured do without

    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pillow", "opencv-python-headless", "scipy"))
    return HEAD.format(
        images=images,
        processes=processes,
        machine=machine(),
        versions=versions,
        width=WIDTH_PX,
        height=HEIGHT_PX,
        sample=SAMPLE_S,
    )


def places(images: int) -> list[tuple[str, int]]:
    """Class and number of each image, in PBC's proportions."""
    share = images / sum(CLASS_SIZES.values())
    return [(name, number) for name, size in CLASS_SIZES.items() for number in range(round(share * size))]


def path_of(place: tuple[str, int]) -> Path:
    name, number = place
    return Path(TOP, name, f"{name}_{number:05}.jpg")


def write_images(folder: Path, images: list[tuple[str, int]], processes: int) -> None:
    for name in CLASS_SIZES:
        (folder / TOP / name).mkdir(parents=True)
    with mapper(processes) as spread:
        for _ in tqdm(spread(partial(write_image, folder), images), total=len(images), desc="draw", disable=None):
            pass


def write_image(folder: Path, place: tuple[str, int]) -> None:
    """A planted copy is made from the image before it."""
    name, number = place
    method = PLANTED.get(number % 100, "")
    field = draw_field(name, number - 1 if method else number)
    left, top = SHIFT_PX if method == "overlap" else (0, 0)
    image = Image.fromarray(field[top : top + HEIGHT_PX, left : left + WIDTH_PX])
    image.save(folder / path_of(place), quality=75 if method == "perceptual_hash" else 85, subsampling=0)


def draw_field(name: str, number: int) -> np.ndarray:
    """A field of view, larger than an image by SHIFT_PX."""
    rng = np.random.default_rng(cell_seed(0, name, str(number)))
    drawn = Image.fromarray(draw_cell(name, rng, DRAWN_PX, load_params().phantom.pbc).image)
    size = (WIDTH_PX + SHIFT_PX[0], HEIGHT_PX + SHIFT_PX[1])
    pixels = np.asarray(drawn.resize(size, Image.Resampling.BICUBIC))
    grain = rng.normal(0, GRAIN, (*pixels.shape[:2], 1))
    return (pixels + grain).clip(0, 255).astype(np.uint8)


def row(scratch: Path, images: list[tuple[str, int]], processes: int) -> str:
    """A line of the table; every size has a folder of links and a process of its own."""
    raw = scratch / f"raw_{len(images)}"
    for place in images:
        (raw / path_of(place)).parent.mkdir(parents=True, exist_ok=True)
        os.link(scratch / "all" / path_of(place), raw / path_of(place))
    command = [sys.executable, "-m", "benchmarks.preparing", "--one", str(raw), "--processes", str(processes)]
    peak = watched(command)
    answer = json.loads(answer_of(raw).read_text())
    seconds: dict[str, float] = answer["seconds"]
    rest = seconds["all"] - sum(seconds[phase] for phase in PHASES)
    times = [f"{value:.1f} s" for value in (*(seconds[phase] for phase in PHASES), rest, seconds["all"])]
    memory = [f"{value / 2**30:.2f} GiB" for value in (peak.own, peak.pss)]
    planted, linked = copies_among(images), set(map(frozenset, answer["pairs"]))
    found = (f"{len(planted & linked)} of {len(planted)}", len(linked - planted))
    cells = (len(images), *times, f"{len(images) / seconds['all']:.0f}", *memory, *found)
    return f"| {' | '.join(map(str, cells))} |"


def copies_among(images: list[tuple[str, int]]) -> set[frozenset[str]]:
    """The files of each planted pair."""
    copies = [(name, number) for name, number in images if number % 100 in PLANTED]
    return {frozenset(path_of((name, one)).as_posix() for one in (number - 1, number)) for name, number in copies}


def answer_of(raw: Path) -> Path:
    """What was measured on the images of that folder; a file, since a pipe that nobody reads holds 64 kB."""
    return raw.with_name(f"{raw.name}.json")


def watched(command: list[str]) -> Peak:
    """The memory of the command and all its processes."""
    process, peak = psutil.Popen(command, stdout=sys.stderr), Peak()
    while process.poll() is None:
        peak = peak.or_more(memory_of(process))
        time.sleep(SAMPLE_S)
    if process.returncode:
        sys.exit(process.returncode)
    return peak


def memory_of(process: psutil.Process) -> Peak:
    own, pss = 0, 0
    for member in [process, *process.children(recursive=True)]:
        try:
            memory = member.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        own, pss = own + memory.rss - memory.shared, pss + memory.pss
    return Peak(own, pss)


def prepared(raw: Path, processes: int) -> dict:
    """Seconds of each phase, and the pairs of files that were linked."""
    params, folder = load_params(Path("params/paper.yaml")), raw.with_name(f"{raw.name}_prepared")
    set_params, seconds = params.datasets["pbc"], dict.fromkeys(PHASES, 0.0)
    with ExitStack() as patches:
        for phase, (module, name) in PHASES.items():
            patches.enter_context(mock.patch.object(module, name, timed(getattr(module, name), phase, seconds)))
        whole = timed(prepare.prepare_dataset, "all", seconds)
        whole(spec_of("pbc", set_params), set_params, params.preprocess, 0, raw, folder, processes, ignore)
    return {"seconds": seconds, "pairs": pd.read_csv(folder / LINKS)[["first", "second"]].to_numpy().tolist()}


def timed(function: Callable, phase: str, seconds: dict[str, float]) -> Callable:
    """The function, whose time is added to that of the phase."""

    @wraps(function)
    def run(*args: object, **kwargs: object) -> object:
        began = time.perf_counter()
        result = function(*args, **kwargs)
        seconds[phase] = seconds.get(phase, 0) + time.perf_counter() - began
        return result

    return run


if __name__ == "__main__":
    main()
