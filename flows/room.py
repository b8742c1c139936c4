"""The room that this machine has for stages beside each other: workers, memory, GPUs."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import psutil

from flows.durations import read_peaks, slug
from pipeline.params import Params

COMPUTING = ("pretrain", "finetune", "explain", "score")  # kinds of stage that use a GPU where there is one
MASK = "CUDA_VISIBLE_DEVICES"
CGROUP = Path("/sys/fs/cgroup")


class Room:
    """Who is in, and what is left for others. A stage that is alone has room, whatever it takes."""

    def __init__(
        self,
        workers: int,
        memory_mib: float = inf,
        gpus: Sequence[str] = (),
        peaks_mib: Mapping[str, float] | None = None,
        processes_of_finetuning: int = 1,
    ) -> None:
        """
        Args:
            memory_mib: free when nothing is in.
            gpus: as CUDA_VISIBLE_DEVICES names them; a computing stage gets one for itself.
            peaks_mib: what stages took when they last ran, by `slug`; one that never ran counts as the largest of its
                kind, and the first of a kind as nothing.
            processes_of_finetuning: each takes as much memory, and a GPU for itself.
        """
        self.workers, self.memory_mib, self.free_gpus = workers, memory_mib, list(gpus)
        self.gpus, self.processes_of_finetuning, self.peaks_mib = len(gpus), processes_of_finetuning, peaks_mib or {}
        self.taken: dict[str, list[str]] = {}  # stage -> its GPUs

    def enter(self, stage: str) -> dict[str, str] | None:
        """What the stage's environment has to say beside this process's; None while there is no room for it."""
        needed = self._gpus_of(stage)
        if len(self.taken) >= self.workers or needed > len(self.free_gpus) or not self._has_memory(stage):
            return None
        self.taken[stage], self.free_gpus = self.free_gpus[:needed], self.free_gpus[needed:]
        return {MASK: ",".join(self.taken[stage])} if needed else {}

    def leave(self, stage: str) -> None:
        self.free_gpus += self.taken.pop(stage)

    def _gpus_of(self, stage: str) -> int:
        """All where it would have more: the stage says itself that they are too few."""
        return min(self._processes(stage), self.gpus) if kind_of(stage) in COMPUTING else 0

    def _processes(self, stage: str) -> int:
        return self.processes_of_finetuning if kind_of(stage) == "finetune" else 1

    def _has_memory(self, stage: str) -> bool:
        inside = sum(self._peak(each) * self._processes(each) for each in (*self.taken, stage))
        return not self.taken or inside <= self.memory_mib

    def _peak(self, stage: str) -> float:
        if (known := self.peaks_mib.get(slug(stage.replace("_seed@", "@")))) is not None:
            return known
        kind = kind_of(stage)
        return max((peak for name, peak in self.peaks_mib.items() if name.split("-")[0] == kind), default=0)


def room_here(params: Params, workers: int | None) -> Room:
    """
    Args:
        workers: the most stages at a time; None: as many as the cores can feed, or one for each GPU.
    """
    gpus = gpus_to_share(params)
    wanted = workers or default_workers(params, len(gpus))
    return Room(wanted, free_memory_mib(), gpus, read_peaks(), params.finetune.processes)


def gpus_to_share(params: Params) -> list[str]:
    """Those that stages take in turns: none where a cluster computes, or `study.device` names one device for all."""
    takes_any = params.study.device in ("auto", "cuda")
    return visible_gpus() if takes_any and params.runner.kind == "local" else []


def visible_gpus() -> list[str]:
    """NVIDIA's, told without torch, whose import takes seconds; CUDA_VISIBLE_DEVICES may hide some."""
    if (mask := os.environ.get(MASK)) is not None:
        return [name for name in mask.split(",") if name.strip() and name != "-1"]
    return [str(number) for number, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def default_workers(params: Params, gpus: int) -> int:
    if gpus:
        return gpus
    if params.study.device not in ("auto", "cpu"):
        return 1  # all share a GPU
    from joblib import cpu_count  # knows of affinity and of a container's share

    return max(1, cpu_count() // (params.study.threads * params.finetune.processes))


def free_memory_mib() -> float:
    """Of the machine, or of what a container (cgroup v2) may have of it."""
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # no container, or one without a limit, for which it says `max`
        limit, used = (int((CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        parts = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(parts["inactive_file"]))  # copies of files give way
    return free / 2**20


def kind_of(stage: str) -> str:
    """`finetune` of `finetune@busi-dino` and of `finetune_seed@busi-dino-1`."""
    return stage.split("@")[0].removesuffix("_seed")
