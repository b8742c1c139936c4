"""Where the arithmetic runs and in which precision."""

import torch

from pipeline.errors import StudyError


def resolve_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is a GPU, else the CPU.

    Raises:
        StudyError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise StudyError(f"study.device: {name}: this torch sees {torch.cuda.device_count()} GPUs; use auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise StudyError("study.device: mps: this torch has no Metal; use auto or cpu")
    return device


def resolve_precision(device: torch.device, precision: str) -> str:
    """`fp32` or `bf16`; `auto` is bf16 on a GPU that has it natively.

    On a CPU `auto` is fp32: with AVX512-BF16 a training step in bf16 took 0.8 to 3.0 times as long (six small
    transformers, five of them slower), since the casts cost more than the shorter products save.
    """
    if precision != "auto":
        return precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which models compute in `precision` (auto, fp32 or bf16); their weights stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolve_precision(device, precision) == "bf16")


def set_threads(number: int) -> None:
    """CPU threads of this process; sums, and so last digits, depend on their number."""
    torch.set_num_threads(number)
