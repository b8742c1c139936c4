"""The room that this machine has for stages beside each other: workers, memory, GPUs."""

import os
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

import psutil

from flows.durations import read_peaks, slug
from pipeline.params import Params, StudyParams

COMPUTING = ("pretrain", "finetune", "explain", "score")  # kinds of stage that use a GPU where there is one
MASK = "CUDA_VISIBLE_DEVICES"


class Room:
    """Who is in, and what is left for others. A stage that is alone has room, whatever it takes."""

    def __init__(
        self,
        workers: int,
        memory_mib: float = inf,
        gpus: Sequence[str] = (),
        peaks_mib: Mapping[str, float] | None = None,
        gpus_of_finetuning: int = 1,
    ) -> None:
        """
        Args:
            memory_mib: free when nothing is in.
            gpus: as CUDA_VISIBLE_DEVICES names them; a computing stage gets one for itself, a fine-tuning in several
                processes one for each.
            peaks_mib: what stages took when they last ran, by `slug`; one that never ran counts as the largest of its
                kind, and the first of a kind as nothing.
        """
        self.workers, self.memory_mib, self.free_gpus = workers, memory_mib, list(gpus)
        self.gpus, self.gpus_of_finetuning, self.peaks_mib = len(gpus), gpus_of_finetuning, peaks_mib or {}
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
        wanted = {"finetune": self.gpus_of_finetuning}.get(kind_of(stage), 1)
        return min(wanted, self.gpus) if kind_of(stage) in COMPUTING else 0

    def _has_memory(self, stage: str) -> bool:
        inside = sum(self._peak(each) for each in self.taken)
        return not self.taken or inside + self._peak(stage) <= self.memory_mib

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
    wanted = workers or default_workers(params.study, len(gpus))
    free_mib = psutil.virtual_memory().available / 2**20
    return Room(wanted, free_mib, gpus, read_peaks(), params.finetune.processes)


def gpus_to_share(params: Params) -> list[str]:
    """Those that stages take in turns: none where a cluster computes, or `study.device` names one device for all."""
    takes_any = params.study.device in ("auto", "cuda")
    return visible_gpus() if takes_any and params.runner.kind == "local" else []


def visible_gpus() -> list[str]:
    """NVIDIA's, told without torch, whose import takes seconds; CUDA_VISIBLE_DEVICES may hide some."""
    if (mask := os.environ.get(MASK)) is not None:
        return [name for name in mask.split(",") if name.strip() and name != "-1"]
    return [str(number) for number, _ in enumerate(sorted(Path("/proc/driver/nvidia/gpus").glob("*")))]


def default_workers(study: StudyParams, gpus: int) -> int:
    if gpus:
        return gpus
    on_a_gpu = study.device not in ("auto", "cpu")
    return 1 if on_a_gpu else max(1, len(os.sched_getaffinity(0)) // study.threads)


def kind_of(stage: str) -> str:
    """`finetune` of `finetune@busi-dino` and of `finetune_seed@busi-dino-1`."""
    return stage.split("@")[0].removesuffix("_seed")
