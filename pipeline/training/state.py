"""What a killed training goes on from: one safetensors file, whole after each epoch, gone after the last.

It holds weights, optimizer, the weights kept so far and the history, and carries the key of everything that decides the
result. State of another key is thrown away: a resumed training ends with the bytes of an uninterrupted one.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.files import whole_file

logger = logging.getLogger(__name__)

HEADER_KEY = "state"


@dataclass(frozen=True)
class EpochRow:
    epoch: int  # from 1
    learning_rate: float  # of its last step
    train_loss: float
    measures: dict[str, float]

    def flat(self) -> dict[str, int | float]:
        """A line of history.csv."""
        return {
            "epoch": self.epoch, "learning_rate": self.learning_rate, "train_loss": self.train_loss, **self.measures
        }  # fmt: skip


@dataclass
class Course:
    """How far a training has come."""

    watched: str | None  # the measure that decides which epoch is kept; None keeps the last
    history: list[EpochRow] = field(default_factory=list)
    kept_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def epochs_run(self) -> int:
        return len(self.history)

    @property
    def kept(self) -> EpochRow:
        """The first epoch of the highest watched measure, or else the last."""
        watched = self.watched
        return max(self.history, key=lambda row: row.measures[watched]) if watched else self.history[-1]

    def add(self, row: EpochRow, module: nn.Module) -> None:
        self.history.append(row)
        if self.kept is row:
            self.kept_weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}


@dataclass(frozen=True)
class StateFile:
    path: Path
    key: str  # hash of everything that decides the result

    def save(self, course: Course, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        header = {"key": self.key, "history": [asdict(row) for row in course.history]}
        tensors = {
            **{f"model/{name}": tensor for name, tensor in module.state_dict().items()},
            **{f"kept/{name}": tensor for name, tensor in course.kept_weights.items()},
            **_optimizer_tensors(optimizer),
        }
        with whole_file(self.path) as partial:
            save_file(tensors, partial, metadata={HEADER_KEY: json.dumps(header)})

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer, watched: str | None) -> Course:
        """Puts module and optimizer where the file left them; a fresh course if there is no file of this key."""
        header, tensors = self._read()
        if header.get("key") != self.key:
            if header:
                logger.warning("%s: of other data, parameters, packages or code; the training starts anew", self.path)
            self.path.unlink(missing_ok=True)
            return Course(watched)
        device = next(module.parameters()).device
        module.load_state_dict(_part(tensors, "model"))
        _restore_optimizer(optimizer, _part(tensors, "optimizer"))
        kept = {name: tensor.to(device) for name, tensor in _part(tensors, "kept").items()}
        course = Course(watched, [EpochRow(**row) for row in header["history"]], kept)
        logger.info("going on after epoch %d", course.epochs_run)
        return course

    def _read(self) -> tuple[dict, dict[str, Tensor]]:
        try:
            with safe_open(self.path, "pt") as file:
                header = json.loads((file.metadata() or {}).get(HEADER_KEY, "{}"))
                return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            return {}, {}
        except (SafetensorError, OSError, ValueError) as error:
            logger.warning("%s: damaged (%s); the training starts anew", self.path, error)
            return {}, {}


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """optimizer/<number of the parameter>/<step | exp_avg | exp_avg_sq>"""
    state = optimizer.state_dict()["state"]
    return {f"optimizer/{number}/{name}": tensor for number, part in state.items() for name, tensor in part.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
