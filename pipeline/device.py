"""Where the arithmetic runs, in which precision, and how much of it at a time."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from weakref import finalize

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.errors import StudyError

T = TypeVar("T")

CPU_BUDGET_MIB = 64  # what caches still help with: Swin-T at 224 px took 133 ms an image by 2 or 4, 208 ms by 16
LARGEST_BATCH = 512
GPU_SHARE = 0.5  # of the free memory; the allocator keeps more than the tensors need


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


def settled_device(name: str) -> str:
    """`auto` as this machine takes it; another name stays as it is, for a machine that may have more than this one."""
    return str(resolve_device(name)) if name == "auto" else name


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


class Arriving:
    """A number on its way from the device, which goes on working meanwhile."""

    def __init__(self, number: Float[Tensor, ""]) -> None:
        self._copy = number.to("cpu", non_blocking=True)
        self._arrival = torch.cuda.Event() if number.is_cuda else None
        if self._arrival:
            self._arrival.record()

    def value(self) -> float:
        if self._arrival:
            self._arrival.synchronize()
        return self._copy.item()


def set_threads(number: int) -> None:
    """CPU threads of this process; sums, and so last digits, depend on their number."""
    torch.set_num_threads(number)


def in_batches_that_fit(function: Callable[[slice], T], count: int, batch_size: int) -> Iterator[T]:
    """What `function` returns for slices that follow one another from 0 to `count`, in order.

    Slices hold `batch_size` items, or as many as remain. Where memory runs out the slice is tried again with half of
    them, and so are all that follow.

    Raises:
        StudyError: memory does not even suffice for one item.
    """
    first = 0
    while first < count:
        part = slice(first, min(first + batch_size, count))
        result = _unless_out_of_memory(function, part)
        if result is not None:
            yield result
            first = part.stop
        else:
            batch_size = _half(part.stop - part.start)


def batch_within(function: Callable[[Tensor], object], item: Tensor, budget_mib: int | None = None) -> int:
    """How many items like `item` (a batch of one) may go through `function` at a time.

    Counted from the tensors that are alive at the worst moment, so equal on every machine of a kind.

    Args:
        budget_mib: MiB that the tensors may take; by default `CPU_BUDGET_MIB`, or a share of what the GPU has free.
    """
    one, two = (peak_bytes(function, item.expand(copies, *item.shape[1:])) for copies in (1, 2))
    budget = _default_budget(item.device) if budget_mib is None else budget_mib * 2**20
    fits = budget // max(two - one, item[0].nbytes)
    return max(1, min(fits, LARGEST_BATCH))


def peak_bytes(function: Callable[[Tensor], object], batch: Tensor) -> int:
    """Bytes of the tensors made by `function` that are alive together at the worst moment."""
    with _Alive() as alive:
        function(batch)
    return alive.peak


class _Alive(TorchDispatchMode):
    """Counts the storages that operations make, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and _address(leaf) not in known | self.seen:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        self.seen.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        finalize(storage, self._free, address, size)

    def _free(self, address: int, size: int) -> None:
        self.seen.discard(address)
        self.now -= size


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return CPU_BUDGET_MIB * 2**20


def _unless_out_of_memory(function: Callable[[slice], T], part: slice) -> T | None:
    """None where memory ran out; the failed call's tensors are gone by then, with its traceback."""
    try:
        return function(part)
    except torch.OutOfMemoryError:
        return None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # what the CPU's allocator says
            raise
        return None


def _half(items: int) -> int:
    if items == 1:
        raise StudyError("out of memory with a batch of one; use a smaller model or image, or a larger machine")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return items // 2
