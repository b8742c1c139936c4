"""Times of rivals that take turns, so that a busy moment of the machine meets them all."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

Way = Callable[[], object]


@dataclass(frozen=True)
class Figure:
    """One line of the table; a ratio of at least `at_least` is the aim."""

    name: str
    peer: str
    ratio: float
    at_least: float
    ours: str
    theirs: str


def medians(ways: dict[str, Way], rounds: int) -> dict[str, float]:
    """Median seconds of each way; every one has been run once before it counts where there are rounds to spare."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - begin)
    return {name: median(found) for name, found in times.items()}


def speed(name: str, peer: str, at_least: float, ours_s: float, theirs_s: float) -> Figure:
    return Figure(name, peer, theirs_s / ours_s, at_least, f"{ours_s:.2f} s", f"{theirs_s:.2f} s")


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the short name will do
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    amx = "AMX" if torch.cpu._is_amx_tile_supported() else "no AMX"
    return f"{cpu}, {torch.get_num_threads()} threads, {amx}, {gpu}"
