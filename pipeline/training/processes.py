"""The processes that share one training: `accelerate launch` starts them, and each takes a share of every batch.

All hold the same weights and the same course. The batch is that of all together, so their number changes speed and
last digits, and nothing else. Alone, a process knows nothing of Accelerate.
"""

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from pipeline.errors import StudyError

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Share:
    """Which part of every batch is this process's."""

    position: int = 0
    processes: int = 1

    def of(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
        """Rows that follow one another; shares differ by one row at most, and a small batch leaves some empty."""
        return np.array_split(rows, self.processes)[self.position]


@dataclass(frozen=True)
class Processes:
    share: Share = field(default_factory=Share)
    accelerator: "Accelerator | None" = None  # of several

    @property
    def number(self) -> int:
        return self.share.processes

    @property
    def is_main(self) -> bool:
        """Whether this is the one that speaks and writes files."""
        return self.share.position == 0

    @property
    def seed_names(self) -> tuple[int, ...]:
        """For a seed that must differ between the processes; the first has that of one alone."""
        return () if self.is_main else (self.share.position,)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose backward pass leaves the mean of all processes' gradients in the parameters."""
        return module if self.accelerator is None else self.accelerator.prepare_model(module)

    def summed(self, tensor: Tensor) -> Tensor:
        """Over all processes, equal in each."""
        return tensor if self.accelerator is None else self.accelerator.reduce(tensor, reduction="sum")

    def refuse_difference(self, epochs_run: int, device: torch.device) -> None:
        """
        Raises:
            StudyError: the processes would go on from different epochs.
        """
        own = nn.functional.one_hot(torch.tensor(self.share.position), self.number).to(device) * epochs_run
        if len(found := sorted(set(self.summed(own).tolist()))) > 1:
            raise StudyError(
                f"the processes of this training stand at different epochs ({found[0]} and {found[-1]}); "
                "start them in one folder that all machines share"
            )

    def part(self) -> None:
        """Waits for the others' end; from here on each is alone."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()
            self.accelerator.end_training()


def processes_here(device: torch.device) -> Processes:
    """Those that were started together with this one; each takes a GPU of its own where `device` is one.

    Raises:
        StudyError: `device` is one GPU for all of them.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if device.index is not None:
        raise StudyError(f"study.device: {device} is one device for all processes; use auto, cuda or cpu")
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")  # precision is the training's own matter
    return Processes(Share(accelerator.process_index, accelerator.num_processes), accelerator)
